//! Commands that come by the broker: facts with the same body as `POST /v1/conversions`, `/v1/refunds` and `/v1/touches`,
//! each kind on a topic of its own, recorded by the same code. A message is untrusted: what is wrong with it becomes the
//! reason of its dead letter.

use std::collections::BTreeMap;

use conversions::{CustomerKeys, Fact, NewConversion, NewRefund, NewTouch, Prepared};
use kernel::{Fault, PayloadSchema, Result, Timestamp, problems};
use log_pulsar::{Options, Subscription, SubscriptionOptions};
use platform::bridge::{Command, Incoming, Inlet};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The name of the subscription, of its claims, and of the actor in the events.
pub(crate) const NAME: &str = "commands";

/// A kind of command.
struct Kind {
    /// Its topic's local name; with a version it is the command's type.
    local: &'static str,
    schema: fn() -> PayloadSchema,
    read: fn(&[u8]) -> Result<Fact>,
}

const KINDS: [Kind; 3] = [
    Kind { local: "commands.conversion", schema: conversion_schema, read: conversion },
    Kind {
        local: "commands.refund",
        schema: PayloadSchema::of::<NewRefund>,
        read: |body| fact::<NewRefund>(body).map(Fact::Refund),
    },
    Kind {
        local: "commands.touch",
        schema: PayloadSchema::of::<NewTouch>,
        read: |body| fact::<NewTouch>(body).map(Fact::Touch),
    },
];

/// The topics of commands with the schemas of their bodies.
pub(crate) fn schemas() -> BTreeMap<String, PayloadSchema> {
    KINDS.iter().map(|kind| (kind.local.to_owned(), (kind.schema)())).collect()
}

/// The subscription to all of them.
pub(crate) fn subscription(options: Options) -> Result<Subscription> {
    let topics = KINDS.iter().map(|kind| options.topic(kind.local)).collect();
    Subscription::new(options, SubscriptionOptions::raw(NAME, topics))
}

/// A fact that is ready, and what its sender gave it to find its traces by.
pub(crate) type Ready = (Prepared, Option<String>);

/// Message → fact → recorded.
pub(crate) fn inlet(keys: CustomerKeys) -> Inlet<Ready> {
    Inlet {
        name: NAME,
        read: Box::new(move |message, now| read(message, &keys, now).map(Some)),
        apply: Box::new(|tx, ready| {
            let (facts, correlation_ids): (Vec<Prepared>, Vec<Option<String>>) = ready.into_iter().unzip();
            let correlation_ids: Vec<Option<&str>> = correlation_ids.iter().map(Option::as_deref).collect();
            let receipts = conversions::record(tx, &facts, &correlation_ids)?;
            Ok(receipts.into_iter().map(|receipt| receipt.map(drop)).collect())
        }),
    }
}

fn read(message: &Incoming<'_>, keys: &CustomerKeys, now: Timestamp) -> Result<Command<Ready>> {
    let local = message.topic.rsplit('/').next().unwrap_or_default();
    let kind = KINDS.iter().find(|kind| kind.local == local);
    let kind = kind.ok_or_else(|| Fault::internal(format!("{} is no topic of commands", message.topic)))?;
    if let Some(said) = message.property("ce_type").filter(|said| *said != format!("{local}.v1")) {
        let detail = format!("{said:?} is not known on this topic: a newer version reads it, if it is one of ours");
        return Err(Fault::new(&problems::INVALID, detail));
    }
    let correlation_id = message.property("ce_correlationid");
    if correlation_id
        .is_some_and(|id| !(1..=200).contains(&id.len()) || !id.bytes().all(|byte| byte.is_ascii_graphic()))
    {
        let detail = "the property ce_correlationid must be 1 to 200 visible ASCII characters without spaces";
        return Err(Fault::new(&problems::INVALID, detail));
    }
    let ready = conversions::prepare((kind.read)(message.document)?, keys, now)?;
    let about = ready.natural_key().1;
    if let Some(key) = message.key.filter(|key| *key != about) {
        let detail = format!("the key is {key:?}, but the command is about {about:?}: send its external_id, or no key");
        return Err(Fault::new(&problems::INVALID, detail));
    }
    // Claimed by its content: an id that a sender uses twice must not hide the second fact.
    Ok(Command { id: None, body: (ready, correlation_id.map(str::to_owned)) })
}

fn conversion(body: &[u8]) -> Result<Fact> {
    let conversion: NewConversion = fact(body)?;
    if conversion.terms.is_some() {
        let detail = "one-off terms decide about money, and nobody knows who sends messages: use POST /v1/conversions";
        return Err(Fault::at(&problems::INVALID, "/terms", detail));
    }
    Ok(Fact::Conversion(conversion))
}

fn conversion_schema() -> PayloadSchema {
    let mut schema = PayloadSchema::of::<NewConversion>();
    if let Some(properties) = schema.payload["properties"].as_object_mut() {
        properties.remove("terms");
    }
    schema
}

fn fact<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    web::read_body(body).or_else(|_| web::read_body(&tidied(body)?))
}

/// The body as an HTTP client would write it. Along a schema everything that is absent is null, and what has no schema,
/// `metadata`, is text.
fn tidied(body: &[u8]) -> Result<Vec<u8>> {
    let mut document: Value = web::read_body(body)?;
    if let Value::Object(fields) = &mut document {
        let metadata = match fields.remove("metadata") {
            Some(Value::String(text)) => {
                Some(web::read_body::<Value>(text.as_bytes()).map_err(|fault| fault.below("/metadata"))?)
            }
            found => found,
        };
        fields.values_mut().for_each(without_nulls);
        fields.retain(|_, value| !value.is_null());
        fields.extend(metadata.filter(|value| !value.is_null()).map(|value| ("metadata".to_owned(), value)));
    }
    Ok(document.to_string().into_bytes())
}

fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wiring;

    fn keys() -> CustomerKeys {
        let db = platform::Db::in_memory(wiring::options(
            std::sync::Arc::new(kernel::ManualClock::at(now())),
            kernel::IdSource::from_number(1),
            None,
        ));
        CustomerKeys::load_or_create(&db.unwrap()).unwrap()
    }

    fn now() -> Timestamp {
        "2026-01-31T12:00:00Z".parse().unwrap()
    }

    fn read_one(local: &str, key: Option<&str>, properties: &[(&str, &str)], body: &str) -> Result<Ready> {
        let topic = format!("persistent://public/alpes/{local}");
        let pairs = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let message = Incoming {
            topic: &topic,
            key,
            properties: &pairs.collect(),
            payload: body.as_bytes(),
            document: body.as_bytes(),
        };
        read(&message, &keys(), now()).map(|command| command.body)
    }

    const SALE: &str = r#"{"source":"shop","external_id":"7","occurred_at":"2026-01-31T11:00:00Z","amount":{"amount_minor":100,"currency":"USD"}"#;

    fn sale(more: &str) -> String {
        format!("{SALE}{more}}}")
    }

    #[test]
    fn what_a_schema_makes_of_a_body_is_the_same_fact() {
        let read = |body: &str| {
            let (fact, correlation_id) =
                read_one("commands.conversion", Some("7"), &[("ce_correlationid", "c-1")], body).unwrap();
            assert_eq!((fact.kind(), correlation_id.as_deref()), ("conversion", Some("c-1")));
            format!("{fact:?}")
        };
        let lines = r#","lines":[{"amount_minor":100,"category":"shoes"}]"#;
        let plain = sale(&format!(r#"{lines},"metadata":{{"a":{{"b":null}}}}"#));
        let along = sale(&format!(r#"{lines},"kind":null,"code":null,"metadata":"{{\"a\":{{\"b\":null}}}}""#));
        // The keys of customers differ between the two databases; this sale names no customer.
        assert_eq!(read(&plain), read(&along));
        read(&sale(r#","lines":null,"metadata":null"#));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let sale = |more: &str| sale(more);
        let large = sale(&format!(r#","metadata":{{"a":"{}"}}"#, "x".repeat(70_000)));
        for (key, properties, body, words) in [
            (None, vec![], "{".to_owned(), "malformed_json"),
            (None, vec![], "\u{0}\u{1}".to_owned(), "malformed_json"),
            (None, vec![], large, "body_too_large"),
            (None, vec![], sale(r#","new_field":1"#), "(at /new_field)"),
            (None, vec![], sale(r#","terms":{"components":[]}"#), "/terms"),
            (None, vec![], sale(r#","metadata":"[""#), "malformed_json"),
            (None, vec![], sale(r#","amount":null"#), "/amount"),
            (Some("8"), vec![], sale(""), "the key is \"8\", but the command is about \"7\""),
            (None, vec![("ce_type", "commands.conversion.v2")], sale(""), "a newer version reads it"),
            (None, vec![("ce_type", "commands.refund.v1")], sale(""), "is not known on this topic"),
            (None, vec![("ce_correlationid", "a b")], sale(""), "ce_correlationid"),
        ] {
            let said = read_one("commands.conversion", key, &properties, &body).unwrap_err().to_string();
            assert!(said.contains(words), "{said} does not say {words}");
        }
        read_one("commands.conversion", Some("7"), &[("ce_type", "commands.conversion.v1")], &sale("")).unwrap();
        assert!(read_one("commands.refund", None, &[], &sale("")).is_err());
    }

    /// What brokers have; ALPES_BLESS=1 writes what has grown. That it only grows is the broker's rule, too.
    #[test]
    fn the_kept_schemas_are_those_of_the_code() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        for (local, schema) in schemas() {
            let path = folder.join(format!("{local}.avsc"));
            let now = log_pulsar::schema::of_command(&local, &schema).unwrap().pretty() + "\n";
            if std::env::var_os("ALPES_BLESS").is_some() {
                std::fs::write(&path, &now).unwrap();
            }
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(kept, now, "{local} has changed; ALPES_BLESS=1 cargo test -p server writes it");
        }
    }
}
