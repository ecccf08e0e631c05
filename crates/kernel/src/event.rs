//! Events as they are stored and told: typed facts in the past tense, and the envelope around them (CloudEvents 1.0
//! attributes, <https://github.com/cloudevents/spec>).

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::{Fault, Result};
use crate::id::EventId;
use crate::time::Timestamp;

/// A fact that one context tells the others. The type's name carries its version; a published version never changes
/// its shape, except by optional fields.
pub trait Event: Serialize + DeserializeOwned + utoipa::ToSchema {
    /// `<context>.<fact in the past>.v<n>`.
    const TYPE: &'static str;
    /// The aggregate that it is about: `partner`.
    const AGGREGATE: &'static str;
    /// One sentence for the catalogue.
    const MEANING: &'static str;
    /// The id of the aggregate: the event's subject and partition key.
    fn subject(&self) -> String;
    /// The golden sample: fixed for ever.
    fn sample() -> Self;
}

/// An event on its way into the store.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// `<context>.<fact>.v<n>`.
    pub event_type: &'static str,
    /// The kind of aggregate.
    pub aggregate: &'static str,
    /// The aggregate's id.
    pub subject: String,
    /// JSON.
    pub payload: String,
    /// The event that this one follows from.
    pub causation_id: Option<EventId>,
    /// What the client sent to find its own traces.
    pub correlation_id: Option<String>,
}

impl NewEvent {
    /// The event, not yet linked to what caused it.
    pub fn of<E: Event>(event: &E) -> Self {
        Self {
            event_type: E::TYPE,
            aggregate: E::AGGREGATE,
            subject: event.subject(),
            payload: serde_json::to_string(event).expect("an event is plain data and always serialises"),
            causation_id: None,
            correlation_id: None,
        }
    }

    /// Links it to the event that it follows from.
    #[must_use]
    pub fn caused_by(mut self, cause: &EventRecord) -> Self {
        self.causation_id = Some(cause.id);
        self.correlation_id.clone_from(&cause.correlation_id);
        self
    }
}

/// An event as it stands in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventRecord {
    /// Its place in commit order; without gaps.
    pub position: i64,
    /// Its id.
    pub id: EventId,
    /// The kind of aggregate.
    pub aggregate: String,
    /// The aggregate's id: subject and partition key.
    pub subject: String,
    /// `<context>.<fact>.v<n>`.
    pub event_type: String,
    /// JSON.
    pub payload: String,
    /// When it became known (recorded), not when the fact occurred.
    pub time: Timestamp,
    /// Who did it: a key's name, `system`, an operator.
    pub actor: String,
    /// The event that this one follows from.
    pub causation_id: Option<EventId>,
    /// What the client sent to find its own traces.
    pub correlation_id: Option<String>,
}

impl EventRecord {
    /// Whether it is of type `E`.
    pub fn is<E: Event>(&self) -> bool {
        self.event_type == E::TYPE
    }

    /// The typed payload. Fault: `internal` when the stored payload does not decode (a golden sample guards that).
    pub fn decode<E: Event>(&self) -> Result<E> {
        serde_json::from_str(&self.payload)
            .map_err(|error| Fault::internal(format!("event {} at {}: {error}", self.event_type, self.position)))
    }
}

/// A row of the catalogue of events, without the type.
#[derive(Debug, Clone, Copy)]
pub struct Descriptor {
    /// `<context>.<fact>.v<n>`.
    pub event_type: &'static str,
    /// The kind of aggregate.
    pub aggregate: &'static str,
    /// One sentence.
    pub meaning: &'static str,
    /// The golden sample, as pretty JSON.
    pub sample: fn() -> String,
    /// Decodes a stored sample and encodes it again: a change of shape shows as a difference or an error.
    pub round_trip: fn(&str) -> std::result::Result<String, String>,
    /// Decodes a payload and answers the aggregate that it is about: no envelope can claim another one.
    pub subject: fn(&str) -> std::result::Result<String, String>,
    /// The payload's JSON schema, for those who need it outside of this program.
    pub schema: fn() -> PayloadSchema,
}

/// A JSON schema as OpenAPI 3.1 writes it.
#[derive(Debug, Clone, Serialize)]
pub struct PayloadSchema {
    /// The payload.
    pub payload: serde_json::Value,
    /// What the payload refers to by `#/components/schemas/<name>`.
    pub named: std::collections::BTreeMap<String, serde_json::Value>,
}

/// The catalogue's row of `E`.
pub fn describe<E: Event>() -> Descriptor {
    Descriptor {
        event_type: E::TYPE,
        aggregate: E::AGGREGATE,
        meaning: E::MEANING,
        sample: || pretty(&E::sample()),
        round_trip: |text| serde_json::from_str::<E>(text).map(|event| pretty(&event)).map_err(|e| e.to_string()),
        subject: |text| serde_json::from_str::<E>(text).map(|event| event.subject()).map_err(|e| e.to_string()),
        schema: PayloadSchema::of::<E>,
    }
}

impl PayloadSchema {
    /// The schema of `T`.
    pub fn of<T: utoipa::ToSchema>() -> Self {
        let json = |schema| serde_json::to_value(schema).expect("a schema is plain data and always serialises");
        let mut named = Vec::new();
        T::schemas(&mut named);
        let named = named.into_iter().map(|(name, schema)| (name, json(schema))).collect();
        Self { payload: json(T::schema()), named }
    }
}

fn pretty<E: Serialize>(event: &E) -> String {
    serde_json::to_string_pretty(event).expect("an event is plain data and always serialises")
}

/// A document of a published table `pub_*`: reference data that its owner writes in its own transaction and that any
/// context reads inside its own, by key.
pub trait Published: Serialize + DeserializeOwned {
    /// `pub_<what>`.
    const TABLE: &'static str;
}
