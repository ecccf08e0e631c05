//! An event as the world sees it: the JSON format of CloudEvents 1.0, with our extension attributes.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::{EventId, EventRecord, Fault, Result, Timestamp};

/// An event, with the attributes of CloudEvents 1.0.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct CloudEvent {
    /// `1.0`
    specversion: &'static str,
    /// The event.
    id: EventId,
    /// `alpes`
    source: &'static str,
    /// `<context>.<fact>.v<n>`.
    #[serde(rename = "type")]
    event_type: String,
    /// The aggregate that it is about.
    subject: String,
    /// When it became known.
    time: Timestamp,
    /// `application/json`
    datacontenttype: &'static str,
    /// Where the event's shape is described.
    dataschema: String,
    /// Events with the same key are in order.
    partitionkey: String,
    /// The position in the log, as text; without gaps over all events.
    sequence: String,
    /// Who did it.
    actor: String,
    /// What the client sent to find its own traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<String>,
    /// The event that this one follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<EventId>,
    /// The fact.
    #[schema(value_type = Object)]
    data: Box<RawValue>,
}

impl CloudEvent {
    /// The event with its attributes.
    pub fn of(event: EventRecord) -> Result<Self> {
        Ok(Self {
            specversion: "1.0",
            id: event.id,
            source: "alpes",
            dataschema: format!("/docs/events#{}", event.event_type),
            event_type: event.event_type,
            partitionkey: event.subject.clone(),
            subject: event.subject,
            time: event.time,
            datacontenttype: "application/json",
            sequence: event.position.to_string(),
            actor: event.actor,
            correlationid: event.correlation_id,
            causationid: event.causation_id,
            data: RawValue::from_string(event.payload).map_err(Fault::internal)?,
        })
    }
}
