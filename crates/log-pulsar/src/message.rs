//! An event as a message: CloudEvents attributes as properties, the aggregate's id as key, the payload as the topic wants
//! it.

use std::collections::BTreeMap;

use kernel::{EventRecord, Fault, Result};
use pulsar::producer::Message;

use crate::avro::Codec;
use crate::faults;
use crate::link::LARGEST_PAYLOAD_BYTES;
use crate::options::{Encoding, Options, local_topic};
use crate::schema::{self, TopicSchema};

/// The names of properties: CloudEvents attributes with the prefix that the `ce_` binding of other brokers uses.
pub(crate) mod property {
    pub(crate) const ID: &str = "ce_id";
    pub(crate) const SOURCE: &str = "ce_source";
    pub(crate) const SPECVERSION: &str = "ce_specversion";
    pub(crate) const TYPE: &str = "ce_type";
    pub(crate) const SUBJECT: &str = "ce_subject";
    pub(crate) const TIME: &str = "ce_time";
    pub(crate) const DATASCHEMA: &str = "ce_dataschema";
    pub(crate) const DATACONTENTTYPE: &str = "ce_datacontenttype";
    pub(crate) const PARTITIONKEY: &str = "ce_partitionkey";
    pub(crate) const SEQUENCE: &str = "ce_sequence";
    pub(crate) const ACTOR: &str = "ce_actor";
    pub(crate) const CORRELATIONID: &str = "ce_correlationid";
    pub(crate) const CAUSATIONID: &str = "ce_causationid";
}

/// A topic with all that is needed to write on it and to read from it.
pub(crate) struct Topic {
    /// The full name.
    pub(crate) name: String,
    pub(crate) schema: TopicSchema,
    pub(crate) encoding: Encoding,
    pub(crate) codec: Codec,
}

/// All topics by local name.
pub(crate) fn topics(options: &Options) -> Result<BTreeMap<String, Topic>> {
    options.check()?;
    let topics = schema::all().map_err(Fault::internal)?.into_iter().map(|(local, schema)| {
        let codec = Codec::new(&schema).map_err(Fault::internal)?;
        let encoding = options.encoding(&local);
        Ok((local.clone(), Topic { name: options.topic(&local), schema, encoding, codec }))
    });
    topics.collect()
}

/// The local name of the event's topic, and the event as its message.
pub(crate) fn of(
    options: &Options,
    topics: &BTreeMap<String, Topic>,
    event: &EventRecord,
) -> Result<(String, Message)> {
    let local = local_topic(&event.event_type, &event.aggregate);
    let at = |what: &str| format!("event {} at position {}: {what}", event.event_type, event.position);
    let topic = topics.get(&local).ok_or_else(|| {
        let what = at(&format!("there is no topic {local}: the log was written by a newer version, use that one"));
        faults::refused(options, &what, "unknown topic")
    })?;
    let payload = match topic.encoding {
        Encoding::Json => event.payload.clone().into_bytes(),
        Encoding::Avro => topic
            .codec
            .encode(&event.payload)
            .map_err(|error| faults::refused(options, &at("it does not fit its topic's schema"), error))?,
    };
    if payload.len() > LARGEST_PAYLOAD_BYTES {
        let what = at(&format!("{} bytes are more than a broker takes ({LARGEST_PAYLOAD_BYTES})", payload.len()));
        return Err(faults::refused(options, &what, "too large"));
    }
    let message = Message {
        payload,
        properties: properties(options, topic.encoding.content_type(), event).into_iter().collect(),
        partition_key: Some(event.subject.clone()),
        event_time: u64::try_from(event.time.as_micros() / 1_000).ok(),
        ..Message::default()
    };
    Ok((local, message))
}

/// The event's CloudEvents attributes.
pub(crate) fn properties(options: &Options, content_type: &str, event: &EventRecord) -> Vec<(String, String)> {
    let always = [
        (property::ID, event.id.to_string()),
        (property::SOURCE, options.source.clone()),
        (property::SPECVERSION, "1.0".to_owned()),
        (property::TYPE, event.event_type.clone()),
        (property::SUBJECT, event.subject.clone()),
        (property::TIME, event.time.to_string()),
        (property::DATASCHEMA, format!("urn:alpes:event:{}", event.event_type)),
        (property::DATACONTENTTYPE, content_type.to_owned()),
        (property::PARTITIONKEY, event.subject.clone()),
        (property::SEQUENCE, event.position.to_string()),
        (property::ACTOR, event.actor.clone()),
    ];
    let sometimes = [
        (property::CORRELATIONID, event.correlation_id.clone()),
        (property::CAUSATIONID, event.causation_id.map(|id| id.to_string())),
    ];
    let sometimes = sometimes.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(sometimes).map(|(name, value)| (name.to_owned(), value)).collect()
}
