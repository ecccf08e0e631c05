//! Money: whole minor units and an ISO 4217 currency. Arithmetic is checked, rounding is named, floats do not exist, and
//! two currencies are never added.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::fault::{Fault, problems};

/// An ISO 4217 currency code, upper case. Minor units have 0, 2 or 3 decimals depending on the currency.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// ISO 4217 active codes with no minor unit.
const NO_DECIMALS: &str = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
/// ISO 4217 active codes with three decimals.
const THREE_DECIMALS: &str = "BHD IQD JOD KWD LYD OMR TND";
/// ISO 4217 active codes with two decimals.
const TWO_DECIMALS: &str = "AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BRL BSD BTN BWP BYN BZD \
    CAD CDF CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF \
    IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR \
    MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN \
    SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG";

impl Currency {
    /// US dollar: the currency of the demo.
    pub const USD: Self = Self(*b"USD");

    /// The three letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XXX")
    }

    /// How many decimals the major unit has: 0, 2 or 3.
    pub fn decimals(self) -> u32 {
        if listed(NO_DECIMALS, self.as_str()) {
            0
        } else if listed(THREE_DECIMALS, self.as_str()) {
            3
        } else {
            2
        }
    }
}

fn listed(list: &str, code: &str) -> bool {
    list.split_ascii_whitespace().any(|entry| entry == code)
}

/// Why a text is not a currency.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an ISO 4217 currency code in upper case, for example USD")]
pub struct CurrencyError;

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, CurrencyError> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError)?;
        // The commonest first: intake parses one per conversion.
        if &code == b"USD"
            || &code == b"EUR"
            || [TWO_DECIMALS, NO_DECIMALS, THREE_DECIMALS].iter().any(|l| listed(l, text))
        {
            return Ok(Self(code));
        }
        Err(CurrencyError)
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl utoipa::PartialSchema for Currency {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("ISO 4217 code, upper case"))
            .pattern(Some("^[A-Z]{3}$"))
            .examples(["USD"])
            .into()
    }
}

impl utoipa::ToSchema for Currency {
    fn name() -> std::borrow::Cow<'static, str> {
        "Currency".into()
    }
}

/// An amount in one currency; may be negative (a balance, a correction).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Whole minor units of the currency (cents for USD).
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl Money {
    /// `amount_minor` minor units of `currency`.
    pub const fn new(amount_minor: i64, currency: Currency) -> Self {
        Self { amount_minor, currency }
    }

    /// The sum. Faults: `currency_mismatch`, `amount_overflow`.
    pub fn checked_add(self, other: Self) -> Result<Self, Fault> {
        if self.currency != other.currency {
            let detail = format!("{} cannot be added to {}", other.currency, self.currency);
            return Err(Fault::new(&problems::CURRENCY_MISMATCH, detail));
        }
        let sum = self.amount_minor.checked_add(other.amount_minor);
        let amount_minor =
            sum.ok_or_else(|| Fault::new(&problems::AMOUNT_OVERFLOW, "the sum leaves the range of i64"))?;
        Ok(Self { amount_minor, ..self })
    }
}

impl fmt::Display for Money {
    /// For people: `12.34 USD`, `-0.05 USD`, `1234 JPY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = self.currency.decimals();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let unit = 10_u64.pow(decimals);
        let amount = self.amount_minor.unsigned_abs();
        let text = if decimals == 0 {
            format!("{sign}{amount}")
        } else {
            format!("{sign}{}.{:0width$}", amount / unit, amount % unit, width = decimals as usize)
        };
        f.pad_integral(true, "", &format!("{text} {}", self.currency))
    }
}

/// A `Money` that is zero or more: what a conversion or a refund is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Money", into = "Money")]
pub struct Amount(Money);

impl Amount {
    /// Checks that `money` is not negative.
    pub fn new(money: Money) -> Result<Self, Fault> {
        if money.amount_minor < 0 {
            return Err(Fault::new(&problems::AMOUNT_NEGATIVE, format!("{} is below zero", money.amount_minor)));
        }
        Ok(Self(money))
    }

    /// Minor units, zero or more.
    pub const fn minor(self) -> i64 {
        self.0.amount_minor
    }

    /// The currency.
    pub const fn currency(self) -> Currency {
        self.0.currency
    }
}

impl From<Amount> for Money {
    fn from(amount: Amount) -> Self {
        amount.0
    }
}

impl TryFrom<Money> for Amount {
    type Error = String;

    fn try_from(money: Money) -> Result<Self, String> {
        Self::new(money).map_err(|_| "amount_minor must be zero or more".to_owned())
    }
}

impl utoipa::PartialSchema for Amount {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, ObjectBuilder, SchemaFormat, Type};
        ObjectBuilder::new()
            .property(
                "amount_minor",
                ObjectBuilder::new()
                    .schema_type(Type::Integer)
                    .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
                    .minimum(Some(0))
                    .maximum(Some(i64::MAX))
                    .description(Some("Whole minor units (cents for USD), zero or more")),
            )
            .property("currency", Currency::schema())
            .required("amount_minor")
            .required("currency")
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl utoipa::ToSchema for Amount {
    fn name() -> std::borrow::Cow<'static, str> {
        "Amount".into()
    }
}

/// Hundredths of a percent, 0 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct BasisPoints(u32);

impl BasisPoints {
    /// The number of hundredths of a percent, at most 10,000.
    pub fn new(value: u32) -> Option<Self> {
        (value <= 10_000).then_some(Self(value))
    }

    /// The number of hundredths of a percent.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// This share of `amount_minor` (zero or more), rounded half-up.
    pub fn of(self, amount_minor: i64) -> Result<i64, Fault> {
        ratio_half_up(amount_minor, i64::from(self.0), 10_000)
    }
}

impl TryFrom<u32> for BasisPoints {
    type Error = &'static str;

    fn try_from(value: u32) -> Result<Self, Self::Error> {
        Self::new(value).ok_or("expected 0 to 10000 basis points")
    }
}

impl From<BasisPoints> for u32 {
    fn from(value: BasisPoints) -> Self {
        value.0
    }
}

impl utoipa::PartialSchema for BasisPoints {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(0))
            .maximum(Some(10_000))
            .description(Some("Hundredths of a percent"))
            .into()
    }
}

impl utoipa::ToSchema for BasisPoints {
    fn name() -> std::borrow::Cow<'static, str> {
        "BasisPoints".into()
    }
}

/// `round_half_up(amount · numerator / denominator)` for non-negative operands and a positive denominator, exact in
/// 128 bits. Fault: `amount_overflow` when the result leaves the range of i64 or an operand is out of its range.
pub fn ratio_half_up(amount: i64, numerator: i64, denominator: i64) -> Result<i64, Fault> {
    let overflow = || Fault::new(&problems::AMOUNT_OVERFLOW, format!("{amount} x {numerator} / {denominator}"));
    if amount < 0 || numerator < 0 || denominator <= 0 {
        return Err(overflow());
    }
    let denominator = i128::from(denominator);
    let doubled = i128::from(amount) * i128::from(numerator) * 2 + denominator;
    i64::try_from(doubled / (denominator * 2)).map_err(|_| overflow())
}

/// Splits `total` (zero or more) in proportion to `weights` so that the parts sum to it exactly: largest remainder
/// first, ties to the earlier part. All weights zero or none at all: no parts can be made, `None`.
pub fn split(total: i64, weights: &[u32]) -> Option<Vec<i64>> {
    let sum: i128 = weights.iter().map(|&weight| i128::from(weight)).sum();
    if sum == 0 || total < 0 {
        return None;
    }
    let exact = |weight: u32| i128::from(total) * i128::from(weight);
    let mut parts: Vec<i64> = weights.iter().map(|&w| i64::try_from(exact(w) / sum).unwrap_or(i64::MAX)).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|&index| (std::cmp::Reverse(exact(weights[index]) % sum), index));
    let missing = total - parts.iter().sum::<i64>();
    for &index in order.iter().take(usize::try_from(missing).unwrap_or(0)) {
        parts[index] += 1;
    }
    Some(parts)
}

#[cfg(test)]
mod tests;
