//! The outbound half of a bridge: what an outlet makes of events, on somebody else's topics. A sink like any other: the
//! relay's cursor moves when the broker has everything, and a crash before that sends again.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::Schema;
use kernel::{EventRecord, Result};
use platform::bridge::{Content, ORIGIN, Outgoing, Outlet};
use platform::{Db, Sink};
use pulsar::producer::Message;
use pulsar::proto::{self, schema::Type};

use crate::document;
use crate::faults;
use crate::link::{LARGEST_PAYLOAD_BYTES, Link};
use crate::message;
use crate::options::Options;

/// Takes an outlet's messages to Pulsar. Connects with the first slice, and again with the slice after a failure.
pub struct Bridge {
    options: Options,
    outlet: Outlet,
    db: Arc<Db>,
    /// By definition.
    schemas: BTreeMap<&'static str, Schema>,
    /// The schema that is declared on each topic, for ever: a producer has one.
    declared: BTreeMap<String, Option<&'static str>>,
    link: Option<Link>,
}

impl Bridge {
    /// A bridge that is not connected yet; `db` is what the outlet asks.
    pub const fn new(options: Options, outlet: Outlet, db: Arc<Db>) -> Self {
        Self { options, outlet, db, schemas: BTreeMap::new(), declared: BTreeMap::new(), link: None }
    }

    fn send(&mut self, outgoing: Vec<Outgoing>) -> Result<()> {
        let mut messages = Vec::with_capacity(outgoing.len());
        let mut wanted = BTreeMap::new();
        for outgoing in outgoing {
            wanted.insert(outgoing.topic.clone(), self.declare(&outgoing)?);
            messages.push(self.message(outgoing)?);
        }
        let link = match &mut self.link {
            Some(link) => link,
            empty => empty.insert(Link::open(&self.options)?),
        };
        link.prepare(&self.options, wanted.into_iter().collect())?;
        link.send(&self.options, messages)
    }

    /// What the message's topic is told that it carries.
    fn declare(&mut self, outgoing: &Outgoing) -> Result<Option<proto::Schema>> {
        let schema = match outgoing.content {
            Content::Avro { schema, .. } => Some(schema),
            Content::Json(_) | Content::Plain(_) => None,
        };
        let topic = &outgoing.topic;
        if *self.declared.entry(topic.clone()).or_insert(schema) != schema {
            let what = format!("bridge {}: {topic} was given two schemas; give each its own topic", self.outlet.name);
            return Err(faults::refused(&self.options, &what, "two schemas"));
        }
        Ok(schema.map(|definition| proto::Schema {
            name: self.outlet.name.to_owned(),
            schema_data: definition.as_bytes().to_vec(),
            r#type: Type::Avro.into(),
            properties: Vec::new(),
        }))
    }

    fn message(&mut self, outgoing: Outgoing) -> Result<(String, Message)> {
        let Self { options, outlet, schemas, .. } = self;
        let Outgoing { topic, key, mut properties, content, envelope } = outgoing;
        let refused = |what: String| {
            let what = format!("bridge {}: a message for {topic}: {what}", outlet.name);
            faults::refused(options, &what, "a message that cannot be written")
        };
        let (content_type, payload) = match content {
            Content::Json(document) => ("application/json", document.to_string().into_bytes()),
            Content::Plain(bytes) => ("application/octet-stream", bytes),
            Content::Avro { schema: definition, value } => {
                if !schemas.contains_key(definition) {
                    let schema = Schema::parse_str(definition).map_err(|error| refused(error.to_string()))?;
                    schemas.insert(definition, schema);
                }
                ("application/avro", document::encode(&schemas[definition], &value).map_err(refused)?)
            }
        };
        if payload.len() > LARGEST_PAYLOAD_BYTES {
            let what = format!("{} bytes are more than a broker takes ({LARGEST_PAYLOAD_BYTES})", payload.len());
            return Err(refused(what));
        }
        if let Some(event) = &envelope {
            properties.extend(message::properties(options, content_type, event));
        }
        properties.insert(ORIGIN.to_owned(), options.source.clone());
        let event_time = envelope.and_then(|event| u64::try_from(event.time.as_micros() / 1_000).ok());
        let properties = properties.into_iter().collect();
        Ok((topic, Message { payload, properties, partition_key: key, event_time, ..Message::default() }))
    }
}

impl Sink for Bridge {
    fn name(&self) -> &str {
        self.outlet.name
    }

    fn deliver(&mut self, events: &[EventRecord]) -> Result<()> {
        let messages = self.outlet.messages(&self.db, events)?;
        if messages.is_empty() {
            return Ok(());
        }
        let outcome = self.send(messages);
        if outcome.is_err() {
            // What it still has under way must not arrive after what the next attempt sends.
            self.link = None;
        }
        outcome
    }
}
