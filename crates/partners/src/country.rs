//! A country's code.

use serde::{Deserialize, Serialize};

/// A country by its ISO 3166-1 alpha-2 code: two upper-case letters. Whether the code is assigned is not checked,
/// because the list changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Country([u8; 2]);

impl Country {
    /// The two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("two ASCII letters")
    }
}

impl TryFrom<String> for Country {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Self([*a, *b])),
            _ => Err("expected an ISO 3166 country code of two upper-case letters, for example CO"),
        }
    }
}

impl From<Country> for String {
    fn from(country: Country) -> Self {
        country.as_str().to_owned()
    }
}

impl utoipa::PartialSchema for Country {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("ISO 3166-1 alpha-2 code, upper case"))
            .pattern(Some("^[A-Z]{2}$"))
            .examples(["CO"])
            .into()
    }
}

impl utoipa::ToSchema for Country {
    fn name() -> std::borrow::Cow<'static, str> {
        "Country".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_upper_case_letters_and_nothing_else() {
        assert_eq!(Country::try_from("CO".to_owned()).unwrap().as_str(), "CO");
        for bad in ["", "C", "co", "COL", "C1", "Ñ"] {
            assert!(Country::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
    }
}
