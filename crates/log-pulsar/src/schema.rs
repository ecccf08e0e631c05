//! The schema of each topic, made from the published language: one Avro record whose fields are those of all events of
//! the topic, each nullable with the default null, so that the language can only grow and any two versions understand
//! each other (ADR 0010). Which fields an event type has says docs/events.md; which type it is says the property `ce_type`.

use std::collections::BTreeMap;

use kernel::PayloadSchema;
use pulsar::proto::{self, schema::Type};
use serde_json::{Value, json};

use crate::options::{Encoding, local_topic};

/// The shape of a value, as far as it matters on a topic. Names of values (states, kinds) are plain text, because a new
/// name must not need a new schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Whole,
    Flag,
    List(Box<Shape>),
    Record(BTreeMap<String, Shape>),
}

impl Shape {
    /// Both: a record with the fields of either. Fails where they disagree.
    fn with(self, other: Self, place: &str) -> Result<Self, String> {
        match (self, other) {
            (Self::Record(mut fields), Self::Record(more)) => {
                for (name, shape) in more {
                    let place = format!("{place}/{name}");
                    let shape = match fields.remove(&name) {
                        Some(there) => there.with(shape, &place)?,
                        None => shape,
                    };
                    fields.insert(name, shape);
                }
                Ok(Self::Record(fields))
            }
            (Self::List(item), Self::List(other)) => Ok(Self::List(Box::new(item.with(*other, place)?))),
            (one, other) if one == other => Ok(one),
            (one, other) => Err(format!(
                "{place} is {one:?} in one event and {other:?} in another of the same topic: give one of them another name"
            )),
        }
    }

    /// Reads a JSON schema. `named` are the schemas that it may refer to.
    fn of(schema: &Value, named: &BTreeMap<String, Value>, place: &str) -> Result<Self, String> {
        if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
            let target = named.get(name).ok_or_else(|| format!("{place} refers to {name}, which is not there"))?;
            return Self::of(target, named, place);
        }
        if let Some(parts) = ["oneOf", "anyOf", "allOf"].iter().find_map(|word| schema[word].as_array()) {
            let shapes = parts.iter().filter(|part| part["type"] != "null").map(|part| Self::of(part, named, place));
            let whole = shapes.reduce(|one, other| one?.with(other?, place));
            return whole.unwrap_or_else(|| Err(format!("{place} can only be null")));
        }
        let kind = match &schema["type"] {
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null"),
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => Ok(Self::Text),
            Some("integer") => Ok(Self::Whole),
            Some("boolean") => Ok(Self::Flag),
            Some("array") => Ok(Self::List(Box::new(Self::of(&schema["items"], named, place)?))),
            // A free document is text that holds it.
            Some("object") if schema["properties"].is_null() => Ok(Self::Text),
            Some("object") => {
                let properties = schema["properties"].as_object();
                let fields = properties
                    .into_iter()
                    .flatten()
                    .map(|(name, schema)| Ok((name.clone(), Self::of(schema, named, &format!("{place}/{name}"))?)));
                fields.collect::<Result<_, String>>().map(Self::Record)
            }
            _ => Err(format!("{place}: no shape for {schema}")),
        }
    }

    /// As Avro. `name` becomes the name of a record; those inside are named by their way from the outermost one.
    fn avro(&self, name: &str) -> Value {
        match self {
            Self::Text => json!("string"),
            Self::Whole => json!("long"),
            Self::Flag => json!("boolean"),
            Self::List(item) => json!({ "type": "array", "items": item.avro(name) }),
            Self::Record(fields) => {
                let field = |(field, shape): (&String, &Self)| {
                    let kind = shape.avro(&format!("{name}_{field}"));
                    json!({ "name": field, "type": ["null", kind], "default": null })
                };
                json!({ "type": "record", "name": name, "fields": fields.iter().map(field).collect::<Vec<_>>() })
            }
        }
    }
}

/// The schema of one topic.
#[derive(Debug, Clone)]
pub struct TopicSchema {
    /// The topic's local name: `conversions.conversion`.
    pub local: String,
    /// The event types on it, in the order of the catalogue; none on a topic of commands.
    pub types: Vec<&'static str>,
    /// The definition, as Avro writes it; Pulsar's JSON schemas are written in the same way.
    pub definition: Value,
    pub(crate) shape: Shape,
}

impl TopicSchema {
    /// The definition as pretty text, as it is kept under `schemas/`.
    pub fn pretty(&self) -> String {
        serde_json::to_string_pretty(&self.definition).expect("plain data always serialises")
    }

    /// As the driver wants it.
    pub(crate) fn declared(&self, encoding: Encoding) -> proto::Schema {
        let kind = match encoding {
            Encoding::Json => Type::Json,
            Encoding::Avro => Type::Avro,
        };
        proto::Schema {
            name: self.local.clone(),
            schema_data: self.definition.to_string().into_bytes(),
            r#type: kind.into(),
            properties: Vec::new(),
        }
    }
}

/// The schema of a topic of commands, from that of what is asked for. Fails where a value has no shape.
pub fn of_command(local: &str, schema: &PayloadSchema) -> Result<TopicSchema, String> {
    let shape = Shape::of(&schema.payload, &schema.named, local)?;
    Ok(TopicSchema { local: local.to_owned(), types: Vec::new(), definition: define(local, &shape), shape })
}

/// The schemas of all topics of events, by local name. Fails where two events of one topic disagree about a field: a test of this
/// crate sees it before anybody else does.
pub fn all() -> Result<BTreeMap<String, TopicSchema>, String> {
    let mut topics = BTreeMap::<String, TopicSchema>::new();
    for event in events::catalogue() {
        let local = local_topic(event.event_type, event.aggregate);
        let PayloadSchema { payload, named } = (event.schema)();
        let shape = Shape::of(&payload, &named, event.event_type)?;
        let (types, shape) = match topics.remove(&local) {
            Some(there) => (there.types, there.shape.with(shape, &local)?),
            None => (Vec::new(), shape),
        };
        let definition = define(&local, &shape);
        let types = types.into_iter().chain([event.event_type]).collect();
        topics.insert(local.clone(), TopicSchema { local, types, definition, shape });
    }
    Ok(topics)
}

fn define(local: &str, shape: &Shape) -> Value {
    let (context, aggregate) = local.split_once('.').unwrap_or(("", local));
    let mut definition = shape.avro(aggregate);
    definition["namespace"] = json!(format!("alpes.{context}"));
    definition
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(fields: &[(&str, Shape)]) -> Shape {
        Shape::Record(fields.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone())).collect())
    }

    /// The copies under `schemas/` are what brokers have: ALPES_BLESS=1 writes what has grown, and nothing else may change.
    #[test]
    fn the_kept_schemas_are_those_of_the_code_and_only_grow() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
        let all = all().unwrap();
        for topic in all.values() {
            let path = folder.join(format!("{}.avsc", topic.local));
            let kept = std::fs::read_to_string(&path).unwrap_or_default();
            if kept.trim_end() == topic.pretty() {
                continue;
            }
            if !kept.is_empty() {
                let kept: Value = serde_json::from_str(&kept).unwrap();
                let lost = lost(&kept, &topic.definition);
                assert!(lost.is_empty(), "{}: {lost:?} went away or changed: brokers refuse that", topic.local);
            }
            assert!(
                std::env::var_os("ALPES_BLESS").is_some(),
                "{} has grown; ALPES_BLESS=1 cargo test -p log-pulsar writes it",
                path.display()
            );
            std::fs::write(&path, topic.pretty() + "\n").unwrap();
        }
        let files = std::fs::read_dir(&folder).unwrap().count();
        assert_eq!(files, all.len(), "a schema without a topic: topics are retired, never removed");
    }

    /// The fields of `kept` that `now` has not, or not with the same type.
    fn lost(kept: &Value, now: &Value) -> Vec<String> {
        match (kept, now) {
            (Value::Array(kept), Value::Array(now)) if kept.len() == now.len() => {
                kept.iter().zip(now).flat_map(|(kept, now)| lost(kept, now)).collect()
            }
            (Value::Object(one), Value::Object(other)) if one.contains_key("fields") => {
                let fields = |record: &Value| record["fields"].as_array().cloned().unwrap_or_default();
                let twin = |name: &Value| fields(now).into_iter().find(|field| &field["name"] == name);
                let mut found: Vec<String> = fields(kept)
                    .iter()
                    .flat_map(|field| match twin(&field["name"]) {
                        Some(twin) => lost(&field["type"], &twin["type"]),
                        None => vec![field["name"].to_string()],
                    })
                    .collect();
                if one["name"] != other["name"] {
                    found.push(one["name"].to_string());
                }
                found
            }
            (Value::Object(one), Value::Object(other)) if one.contains_key("items") => {
                lost(&one["items"], &other["items"])
            }
            (kept, now) if kept == now => Vec::new(),
            (kept, _) => vec![kept.to_string()],
        }
    }

    #[test]
    fn what_went_away_or_changed_is_found() {
        let old = record(&[("a", Shape::Text), ("b", Shape::List(Box::new(record(&[("c", Shape::Flag)]))))]).avro("x");
        let grown = record(&[
            ("a", Shape::Text),
            ("b", Shape::List(Box::new(record(&[("c", Shape::Flag), ("d", Shape::Flag)])))),
            ("e", Shape::Whole),
        ]);
        assert_eq!(lost(&old, &grown.avro("x")), Vec::<String>::new());
        for planted in [
            record(&[("b", Shape::List(Box::new(record(&[("c", Shape::Flag)]))))]),
            record(&[("a", Shape::Whole), ("b", Shape::List(Box::new(record(&[("c", Shape::Flag)]))))]),
            record(&[("a", Shape::Text), ("b", Shape::List(Box::new(record(&[]))))]),
        ] {
            assert_eq!(lost(&old, &planted.avro("x")).len(), 1, "{planted:?}");
        }
        assert_eq!(lost(&old, &grown.avro("y")).len(), 2, "a record and the one in it");
    }

    #[test]
    fn events_of_one_topic_share_fields_and_must_agree_on_them() {
        let one = record(&[("id", Shape::Text), ("amount", record(&[("minor", Shape::Whole)]))]);
        let other = record(&[("amount", record(&[("currency", Shape::Text)])), ("whole", Shape::Flag)]);
        let both = record(&[
            ("id", Shape::Text),
            ("amount", record(&[("minor", Shape::Whole), ("currency", Shape::Text)])),
            ("whole", Shape::Flag),
        ]);
        assert_eq!(one.clone().with(other, "x"), Ok(both));
        let fault = one.with(record(&[("amount", Shape::Whole)]), "x").unwrap_err();
        assert!(fault.starts_with("x/amount is "), "{fault}");
    }
}
