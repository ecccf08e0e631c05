//! Typed, prefixed, time-ordered ids. In memory and on disk an id is the 16 bytes of a UUIDv7; people and programs see
//! the TypeID form `<prefix>_<26 characters of Crockford base32>` (<https://github.com/jetify-com/typeid>, spec 0.3).

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// What an id names: its prefix and its schema name.
pub trait IdKind: 'static {
    /// The part before the underscore, for example `ptr`.
    const PREFIX: &'static str;
    /// The name of the schema in the API's documentation, for example `PartnerId`.
    const NAME: &'static str;
}

/// An id of one kind of thing. Two kinds do not mix.
pub struct Id<K>([u8; 16], PhantomData<fn() -> K>);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $prefix:literal, $id:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $kind {}
        impl IdKind for $kind {
            const PREFIX: &'static str = $prefix;
            const NAME: &'static str = stringify!($id);
        }
        $(#[$doc])*
        pub type $id = Id<$kind>;
    )*};
}

kinds! {
    /// A partner: affiliate, influencer or company.
    Partner = "ptr", PartnerId;
    /// A campaign.
    Campaign = "cmp", CampaignId;
    /// A partner's enrolment in a campaign.
    Enrollment = "enr", EnrollmentId;
    /// A touch: a customer met a partner.
    Touch = "tch", TouchId;
    /// A conversion: a sale, a lead or a click.
    Conversion = "cnv", ConversionId;
    /// A refund, chargeback, cancellation or the reversal of a chargeback.
    Refund = "rfd", RefundId;
    /// A commission.
    Commission = "com", CommissionId;
    /// A payout batch.
    Payout = "pay", PayoutId;
    /// One partner's payment in a payout batch; the gateway's idempotency key.
    PayoutItem = "itm", PayoutItemId;
    /// A manual adjustment of a partner's balance.
    Adjustment = "adj", AdjustmentId;
    /// An event.
    EventKind = "evt", EventId;
    /// An API key.
    ApiKey = "key", ApiKeyId;
    /// An event that a consumer could not handle.
    DeadLetter = "dlq", DeadLetterId;
}

impl<K> Id<K> {
    /// An id from the 16 bytes of its UUID.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes, PhantomData)
    }

    /// The 16 bytes of the UUID, as stored.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The bare UUID, for systems that know nothing of prefixes.
    pub fn to_uuid(self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.0)
    }
}

impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for Id<K> {}
impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<K> Eq for Id<K> {}
impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}
impl<K> std::hash::Hash for Id<K> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl<K: IdKind> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b'0'; 26];
        let mut value = u128::from_be_bytes(self.0);
        for place in text.iter_mut().rev() {
            *place = ALPHABET[(value & 31) as usize];
            value >>= 5;
        }
        f.write_str(K::PREFIX)?;
        f.write_str("_")?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl<K: IdKind> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected an id like {prefix}_01h455vb4pex5vsknk084sn02q or a UUID")]
pub struct IdError {
    prefix: &'static str,
}

impl<K: IdKind> FromStr for Id<K> {
    type Err = IdError;

    /// Reads the prefixed form or a bare UUID.
    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = IdError { prefix: K::PREFIX };
        if let Some(rest) = text.strip_prefix(K::PREFIX).and_then(|rest| rest.strip_prefix('_')) {
            return decode_base32(rest).map(Self::from_bytes).ok_or(error);
        }
        match uuid::Uuid::try_parse(text) {
            Ok(uuid) => Ok(Self::from_bytes(*uuid.as_bytes())),
            Err(_) => Err(error),
        }
    }
}

fn decode_base32(text: &str) -> Option<[u8; 16]> {
    // 26 characters carry 130 bits: the first one may only use its lower three.
    if text.len() != 26 || text.as_bytes()[0] > b'7' {
        return None;
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = ALPHABET.iter().position(|&symbol| symbol == byte)?;
        value = (value << 5) | digit as u128;
    }
    Some(value.to_be_bytes())
}

impl<K: IdKind> Serialize for Id<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, K: IdKind> Deserialize<'de> for Id<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl<K: IdKind> utoipa::PartialSchema for Id<K> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(format!("`{}_` and 26 base32 characters, or a bare UUID on input.", K::PREFIX)))
            .examples([serde_json::json!(Self::from_bytes([1; 16]).to_string())])
            .into()
    }
}

impl<K: IdKind> utoipa::ToSchema for Id<K> {
    fn name() -> std::borrow::Cow<'static, str> {
        K::NAME.into()
    }
}

/// Makes ids: time first, then a counter, then randomness, so that ids of one process sort in the order of their
/// making (indexes stay append-mostly) and ids of two processes do not collide.
#[derive(Debug)]
pub struct IdSource {
    random: StdRng,
    last_milliseconds: u64,
    counter: u64,
}

impl IdSource {
    /// A source from a seed: real randomness in the server, a fixed number in tests and simulation.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { random: StdRng::from_seed(seed), last_milliseconds: 0, counter: 0 }
    }

    /// A source for tests and simulation.
    pub fn from_number(seed: u64) -> Self {
        Self { random: StdRng::seed_from_u64(seed), last_milliseconds: 0, counter: 0 }
    }

    /// The next id (UUIDv7, RFC 9562 section 6.2, method 1: 34 bits of counter, 40 bits of randomness).
    pub fn next<K>(&mut self, now: Timestamp) -> Id<K> {
        let milliseconds = u64::try_from(now.as_micros() / 1_000).unwrap_or(0);
        let random = self.random.next_u64();
        if milliseconds > self.last_milliseconds {
            self.last_milliseconds = milliseconds;
            // Start in the lower half, so that the counter has room before it would overflow.
            self.counter = random & 0xffff_ffff;
        } else {
            self.counter += 1;
        }
        let counter = self.counter & 0x3_ffff_ffff;
        let high = (self.last_milliseconds << 16) | 0x7000 | (counter >> 22);
        let low = (0b10 << 62) | ((counter & 0x3f_ffff) << 40) | (random >> 24);
        let value = (u128::from(high) << 64) | u128::from(low);
        Id::from_bytes(value.to_be_bytes())
    }

    /// Fresh random bytes, for secrets and salts.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_follows_the_typeid_vectors() {
        // From the public TypeID specification's valid vectors.
        let id: PartnerId = "0188bac7-4afa-78aa-bc3b-bd1eef28d881".parse().unwrap();
        assert_eq!(id.to_string(), "ptr_01h2xcejqtf2nbrexx3vqjhp41");
        assert_eq!(id.to_string().parse::<PartnerId>().unwrap(), id);
        assert_eq!(PartnerId::from_bytes([0xff; 16]).to_string(), "ptr_7zzzzzzzzzzzzzzzzzzzzzzzzz");
    }

    #[test]
    fn refuses_other_kinds_and_overflow() {
        let id = PartnerId::from_bytes([1; 16]).to_string();
        assert!(id.parse::<CampaignId>().is_err());
        assert!("ptr_8zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<PartnerId>().is_err());
        assert!("ptr_01H2XCEJQTF2NBREXX3VQJHP41".parse::<PartnerId>().is_err());
        assert!("".parse::<PartnerId>().is_err());
    }

    #[test]
    fn ids_of_a_standing_clock_sort_in_the_order_of_their_making() {
        let mut source = IdSource::from_number(1);
        let now = Timestamp::from_micros(900_000_000_000_000);
        let ids: Vec<PartnerId> = (0..10_000).map(|_| source.next(now)).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.to_uuid().get_version_num() == 7));
    }

    #[test]
    fn a_clock_that_goes_back_or_stands_before_1970_keeps_the_order() {
        let mut source = IdSource::from_number(1);
        let times = [5_000_000, 4_000_000, i64::MIN, 0, 5_001_000, -1, 5_001_000, i64::MAX];
        let ids: Vec<PartnerId> = times.into_iter().map(|micros| source.next(Timestamp::from_micros(micros))).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{ids:?}");
        assert!(ids.iter().all(|id| id.to_uuid().get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn two_sources_make_different_ids_and_one_seed_the_same() {
        let make = |seed| -> Vec<PartnerId> {
            let mut source = IdSource::from_number(seed);
            (0..1_000).map(|_| source.next(Timestamp::from_micros(1_000))).collect()
        };
        let (one, other) = (make(1), make(2));
        assert_eq!(one, make(1));
        assert!(one.iter().all(|id| !other.contains(id)));
        assert_ne!(IdSource::from_seed([1; 32]).bytes::<16>(), IdSource::from_seed([2; 32]).bytes::<16>());
    }

    #[test]
    fn the_text_form_refuses_whatever_is_not_one() {
        for bad in [
            "ptr",
            "ptr_",
            "ptr_0",
            "_01h2xcejqtf2nbrexx3vqjhp41",
            "ptr_01h2xcejqtf2nbrexx3vqjhp4",
            "ptr_01h2xcejqtf2nbrexx3vqjhp411",
            "ptr_01h2xcejqtf2nbrexx3vqjhpl1",
            "ptr_01h2xcejqtf2nbrexx3vqjhp4é",
            "ptr-01h2xcejqtf2nbrexx3vqjhp41",
            "ptr__01h2xcejqtf2nbrexx3vqjhp4",
        ] {
            assert!(bad.parse::<PartnerId>().is_err(), "{bad}");
        }
        assert!(serde_json::from_str::<PartnerId>("1").is_err());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn text_uuid_json_and_bytes_are_one_id_and_text_sorts_like_bytes(a: [u8; 16], b: [u8; 16]) {
            let (one, other) = (PartnerId::from_bytes(a), PartnerId::from_bytes(b));
            let text = one.to_string();
            proptest::prop_assert_eq!(text.len(), 30);
            proptest::prop_assert_eq!(text.parse::<PartnerId>().unwrap(), one);
            proptest::prop_assert_eq!(one.to_uuid().to_string().parse::<PartnerId>().unwrap(), one);
            proptest::prop_assert_eq!(serde_json::from_str::<PartnerId>(&serde_json::to_string(&one).unwrap()).unwrap(), one);
            proptest::prop_assert_eq!(text.cmp(&other.to_string()), a.cmp(&b));
            proptest::prop_assert_eq!(one.cmp(&other), a.cmp(&b));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            if let Ok(id) = text.parse::<PartnerId>() {
                proptest::prop_assert_eq!(id.to_string().parse::<PartnerId>().unwrap(), id);
            }
        }
    }
}
