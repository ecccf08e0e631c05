//! Text with limits, so that nothing unbounded, invisible or misleading enters an id, a code or a name.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Control characters break logs and terminals; bidirectional marks and invisible characters make two different ids look
/// the same.
fn misleading(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{180e}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn check(text: &str, longest: usize) -> Result<(), String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > longest * 4 || text.chars().count() > longest {
        return Err(format!("must not be longer than {longest} characters"));
    }
    match text.chars().find(|&c| misleading(c)) {
        Some(c) => Err(format!("must not contain the invisible character U+{:04X}", c as u32)),
        None => Ok(()),
    }
}

macro_rules! text_types {
    ($($(#[$doc:meta])* $name:ident, $longest:literal, $extra:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks the limits; the error says what to change.
            pub fn new(text: impl Into<String>) -> Result<Self, String> {
                let text = text.into();
                check(&text, $longest)?;
                let extra: fn(&str) -> Result<(), String> = $extra;
                extra(&text)?;
                Ok(Self(text))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                use utoipa::openapi::schema::{ObjectBuilder, Type};
                ObjectBuilder::new().schema_type(Type::String).min_length(Some(1)).max_length(Some($longest)).into()
            }
        }

        impl utoipa::ToSchema for $name {
            fn name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

text_types! {
    /// An identifier that another system chose: a source, an external id, a code, a click id, a customer reference.
    /// Compared byte for byte.
    Key, 200, |_| Ok(());
    /// A name for people.
    Label, 200, |_| Ok(());
    /// Why somebody did something.
    Reason, 500, |_| Ok(());
    /// An e-mail address: something, an @ and a domain; proved only by writing to it.
    Email, 254, |text| match text.split_once('@') {
        Some((local, domain)) if !local.is_empty() && domain.contains('.') && !domain.contains('@') && !text.contains(' ') => Ok(()),
        _ => Err("must be an e-mail address".to_owned()),
    };
}

/// What another system calls one of our aggregates; unique per kind of aggregate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// The other system, for example `shopify`.
    pub system: Key,
    /// Its id for the aggregate.
    pub id: Key,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.system, self.id)
    }
}

/// The first 16 bytes of SHA-256 over the parts, each preceded by its length: for keys and body comparison.
pub fn digest16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    let full: [u8; 32] = hasher.finalize().into();
    let mut short = [0; 16];
    short.copy_from_slice(&full[..16]);
    short
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_refuse_what_misleads() {
        for bad in ["", "a\0b", "a\r\nb", "a\u{202e}b", "a\u{200f}b", &"x".repeat(201), &"x".repeat(10_240)] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
        for good in ["1", "../x", "' OR 1=1", "Ünïcode", "\u{65}\u{301}"] {
            assert_eq!(Key::new(good).unwrap().as_str(), good);
        }
        assert!(Email::new("a@b.example").is_ok());
        assert!(Email::new("a@b").is_err());
    }

    #[test]
    fn digests_keep_parts_apart() {
        assert_ne!(digest16(&[b"ab", b"c"]), digest16(&[b"a", b"bc"]));
    }

    #[test]
    fn limits_count_characters_and_include_the_longest() {
        for longest in ["x", "é", "😀"] {
            assert!(Key::new(longest.repeat(200)).is_ok(), "{longest}");
            assert!(Key::new(longest.repeat(201)).is_err(), "{longest}");
        }
        assert!(Reason::new("x".repeat(500)).is_ok() && Reason::new("x".repeat(501)).is_err());
        assert!(Label::new("x".repeat(200)).is_ok() && Label::new("").is_err());
        let domain = format!("{}.example", "d".repeat(240));
        assert!(Email::new(format!("a@{domain}")).is_ok() && Email::new(format!("abcdefgh@{domain}")).is_err());
        for bad in ["@b.example", "a@", "a@@b.example", "a@b@c.example", "a b@c.example", "a", "a@b.example\n"] {
            assert!(Email::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn json_meets_the_same_limits_and_says_what_to_change() {
        assert_eq!(serde_json::from_str::<Key>("\"a\"").unwrap().as_str(), "a");
        for bad in ["\"\"", "\"a\\u0000\"", "\"a\\u202eb\"", "1", "null"] {
            assert!(serde_json::from_str::<Key>(bad).is_err(), "{bad}");
        }
        let error = Key::new("a\u{202e}b").unwrap_err();
        assert!(error.contains("U+202E"), "{error}");
        let invisible = ['\u{ad}', '\u{200b}', '\u{2066}', '\u{feff}', '\u{e0041}', '\u{85}', '\u{7f}'];
        assert!(invisible.iter().all(|c| Key::new(format!("a{c}b")).is_err()));
        let reference = "{\"system\":\"shopify\",\"id\":\"7\"}";
        assert_eq!(serde_json::from_str::<Reference>(reference).unwrap().to_string(), "shopify:7");
        assert!(serde_json::from_str::<Reference>("{\"system\":\"a\",\"id\":\"b\",\"c\":1}").is_err());
    }

    #[test]
    fn digests_and_hexadecimal_are_stable() {
        // SHA-256 over eight bytes of length and the part; stored for ever.
        assert_eq!(hex(&digest16(&[b"abc"])), "c3494ca1a2cf8eeb8a11ded316fb55b8");
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_ne!(digest16(&[]), digest16(&[b""]));
    }
}
