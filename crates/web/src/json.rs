//! Strict JSON: one document, no unknown fields, no key twice (also in free maps, where serde keeps the last one), a
//! limited depth. The fast path parses once; only a refused body is parsed again, to say where it is wrong.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::{self, Write as _};

use kernel::{Fault, Result, problems};
use serde::Deserialize;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::error::Category;
use serde_json::value::RawValue;
use serde_path_to_error::{Path, Segment, Track};

use crate::problem::MALFORMED_JSON;

/// How deep a document may be nested.
const DEEPEST: u8 = 32;
const TOO_DEEP: &str = "nested more than 32 levels deep";
/// A detail that quotes what was sent must not become as long as what was sent.
const LONGEST_DETAIL: usize = 300;

/// Reads the one document in `bytes`. Faults: `malformed_json`, or `invalid` with a pointer.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if let Ok(value) = serde_json::from_slice(bytes)
        && scan(bytes).is_ok()
    {
        return Ok(value);
    }
    Err(explain::<T>(bytes))
}

/// The items of the one document `{"items": […]}` in `bytes`, not read yet. Faults as of [`parse`].
pub(crate) fn items(bytes: &[u8]) -> Result<Vec<&RawValue>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Items<'a> {
        #[serde(borrow)]
        items: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outline {
        #[serde(rename = "items")]
        _items: Vec<IgnoredAny>,
    }
    serde_json::from_slice::<Items<'_>>(bytes).map(|found| found.items).map_err(|_| explain::<Outline>(bytes))
}

fn scan(bytes: &[u8]) -> serde_json::Result<()> {
    let mut document = serde_json::Deserializer::from_slice(bytes);
    Strict(DEEPEST).deserialize(&mut document)?;
    document.end()
}

/// Why `bytes` was refused: the document itself first, then its values.
fn explain<T: DeserializeOwned>(bytes: &[u8]) -> Fault {
    let mut track = Track::new();
    let mut document = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict(DEEPEST).deserialize(serde_path_to_error::Deserializer::new(&mut document, &mut track));
    if let Err(error) = strict.and_then(|()| document.end()) {
        return fault(&track.path(), &error);
    }
    let mut document = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut document) {
        Err(error) => fault(error.path(), error.inner()),
        Ok(_) => Fault::internal("a body was refused and accepted"),
    }
}

fn fault(path: &Path, error: &serde_json::Error) -> Fault {
    let text = error.to_string();
    let is_number = text.starts_with("number out of range");
    let is_malformed = error.classify() != Category::Data && !is_number || text.starts_with(TOO_DEEP);
    let mut pointer = pointer(path);
    if is_malformed {
        return Fault::at(&MALFORMED_JSON, pointer, shortened(&text));
    }
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        let _ = write!(pointer, "/{name}");
    }
    Fault::at(&problems::INVALID, pointer, shortened(message))
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_DETAIL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The JSON pointer (RFC 6901) of a path.
fn pointer(path: &Path) -> String {
    path.iter().fold(String::new(), |mut pointer, segment| {
        match segment {
            Segment::Seq { index } => {
                let _ = write!(pointer, "/{index}");
            }
            Segment::Map { key } => {
                let key = shortened(key).replace('~', "~0").replace('/', "~1");
                let _ = write!(pointer, "/{key}");
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
        pointer
    })
}

/// Reads any value, keeps nothing, refuses a key twice and a level below the number it holds.
#[derive(Clone, Copy)]
struct Strict(u8);

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<(), A::Error> {
        let below = self.0.checked_sub(1).ok_or_else(|| A::Error::custom(TOO_DEEP))?;
        while seq.next_element_seed(Self(below))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let below = self.0.checked_sub(1).ok_or_else(|| A::Error::custom(TOO_DEEP))?;
        let mut seen = BTreeSet::new();
        while let Some(MapKey(key)) = map.next_key()? {
            // The fault is raised while the value is read, so that the pointer names the key.
            if seen.insert(key) { map.next_value_seed(Self(below))? } else { map.next_value_seed(Twice)? }
        }
        Ok(())
    }
}

/// Refuses the value of a key that stands twice.
struct Twice;

impl<'de> DeserializeSeed<'de> for Twice {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, _: D) -> std::result::Result<(), D::Error> {
        Err(D::Error::custom("the key stands twice in one object"))
    }
}

/// A key, borrowed from the document where it has no escapes.
struct MapKey<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for MapKey<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor).map(MapKey)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> std::result::Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::{Amount, Key, Timestamp};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Sale {
        external_id: Key,
        occurred_at: Timestamp,
        amount: Amount,
        #[serde(default)]
        metadata: Option<serde_json::Map<String, serde_json::Value>>,
    }

    fn sale(amount: &str, rest: &str) -> String {
        format!(
            r#"{{"external_id":"1","occurred_at":"2026-01-31T12:00:00Z","amount":{{"amount_minor":{amount},"currency":"USD"}}{rest}}}"#
        )
    }

    fn refused(body: &[u8]) -> (&'static str, String) {
        let fault = parse::<Sale>(body).unwrap_err();
        (fault.code(), fault.errors()[0].pointer.clone())
    }

    #[test]
    fn accepts_what_is_right() {
        parse::<Sale>(sale("1", "").as_bytes()).unwrap();
        parse::<Sale>(sale("9223372036854775807", r#","metadata":{"a":{"b":[1,2.5,null]}}"#).as_bytes()).unwrap();
    }

    #[test]
    fn points_at_wrong_values() {
        let minor = "/amount/amount_minor";
        for (amount, place) in [
            ("-1", "/amount"),
            ("1.5", minor),
            ("\"1\"", minor),
            ("null", minor),
            ("1e400", minor),
            ("9223372036854775808", minor),
            ("92233720368547758080", minor),
        ] {
            assert_eq!(refused(sale(amount, "").as_bytes()), ("invalid", place.to_owned()), "{amount}");
        }
        assert_eq!(refused(sale("1", r#","status":"paid""#).as_bytes()), ("invalid", "/status".to_owned()));
        assert_eq!(refused(br#"{"external_id":"1"}"#), ("invalid", "/occurred_at".to_owned()));
        assert_eq!(refused(br#"{"external_id":"a\u0000"}"#), ("invalid", "/external_id".to_owned()));
        assert_eq!(refused(b"[]"), ("invalid", String::new()));
    }

    #[test]
    fn refuses_keys_that_stand_twice() {
        assert_eq!(refused(sale("1", r#","external_id":"2""#).as_bytes()).0, "invalid");
        for (metadata, place) in [
            (r#"{"a":1,"a":2}"#, "/metadata/a"),
            (r#"{"a":1,"\u0061":2}"#, "/metadata/a"),
            (r#"{"x":[{"a/b":1,"a/b":1}]}"#, "/metadata/x/0/a~1b"),
        ] {
            let body = sale("1", &format!(r#","metadata":{metadata}"#));
            assert_eq!(refused(body.as_bytes()), ("invalid", place.to_owned()), "{metadata}");
        }
    }

    #[test]
    fn refuses_what_is_no_document() {
        let deep = format!("{}1{}", r#"{"metadata":"#.repeat(1_000), "}".repeat(1_000));
        let nested = sale("1", &format!(r#","metadata":{{"a":{}1{}}}"#, "[".repeat(40), "]".repeat(40)));
        let utf16: Vec<u8> = sale("1", "").encode_utf16().flat_map(u16::to_le_bytes).collect();
        let trailing = sale("1", "") + "{}";
        let good = sale("1", "");
        let cases: [&[u8]; 10] = [
            b"",
            b"{",
            sale("NaN", "").leak().as_bytes(),
            deep.as_bytes(),
            nested.as_bytes(),
            &utf16,
            trailing.as_bytes(),
            &good.as_bytes()[..good.len() - 1],
            b"{\"external_id\":\"\xff\"}",
            b"{\"external_id\":\"\\ud800\"}",
        ];
        for body in cases {
            assert_eq!(refused(body).0, "malformed_json", "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn quotes_little_of_what_was_sent() {
        let fault = parse::<Sale>(format!(r#"{{"{}":1}}"#, "x".repeat(10_000)).as_bytes()).unwrap_err();
        assert!(fault.detail().len() < 400 && fault.errors()[0].pointer.len() < 400);
    }
}
