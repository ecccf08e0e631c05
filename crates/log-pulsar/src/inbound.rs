//! A message that came from the broker, and whether it is an event that this program may act upon.

use std::collections::BTreeMap;

use apache_avro::Schema;
use kernel::{Descriptor, EventRecord, Timestamp};
use platform::bridge::Incoming;
use pulsar::consumer::Message;
use pulsar::proto::MessageIdData;

use crate::held::Keyed;
use crate::message::{Topic, property};
use crate::options::{Encoding, local_topic};

/// A message that came from the broker.
#[derive(Debug, Clone)]
pub struct Inbound {
    /// The full name of its topic, of the partition where there are partitions.
    pub topic: String,
    /// Its key: messages of one key come in order.
    pub key: Option<String>,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
    /// Its payload, as it is on the topic.
    pub payload: Vec<u8>,
    /// What the broker calls it: `ledger:entry:partition`, and the place in its batch if it has one.
    pub message_id: String,
    /// When it was published, by the publisher's clock.
    pub publish_time: Timestamp,
    /// How often it failed here before; counted since this process subscribed.
    pub redeliveries: u32,
    /// The event that it carries; always there where a subscription takes events only.
    pub event: Option<EventRecord>,
    /// The payload as JSON, where it was written as Avro and not only events are taken.
    pub document: Option<Vec<u8>>,
    pub(crate) raw_id: MessageIdData,
    pub(crate) batch_size: i32,
    pub(crate) schema_version: Option<Vec<u8>>,
    /// Why it cannot be read, whatever it is.
    pub(crate) unreadable: Option<&'static str>,
    order_key: String,
}

impl Keyed for Inbound {
    fn key(&self) -> &str {
        &self.order_key
    }

    fn id(&self) -> &str {
        &self.message_id
    }
}

impl Inbound {
    pub(crate) fn of(message: Message<Vec<u8>>) -> Self {
        let Message { topic, payload, message_id, .. } = message;
        let (metadata, id) = (payload.metadata, message_id.id);
        let text = format!("{}:{}:{}", id.ledger_id, id.entry_id, id.partition());
        let text = if id.batch_index() >= 0 { format!("{text}:{}", id.batch_index()) } else { text };
        let unreadable = if !metadata.encryption_keys.is_empty() {
            Some("it is encrypted: publish it without encryption")
        } else if metadata.num_chunks_from_msg() > 1 {
            Some("it is one chunk of a larger message: publish it in one piece")
        } else {
            None
        };
        let publish_time = i64::try_from(metadata.publish_time).unwrap_or(i64::MAX).saturating_mul(1_000);
        Self {
            // A message without a key is in order with nothing but itself.
            order_key: metadata
                .partition_key
                .clone()
                .map_or_else(|| format!("{topic} {text}"), |key| format!("{topic} {key}")),
            key: metadata.partition_key,
            properties: metadata.properties.into_iter().map(|pair| (pair.key, pair.value)).collect(),
            payload: payload.data,
            message_id: text,
            publish_time: Timestamp::from_micros(publish_time),
            redeliveries: 0,
            event: None,
            document: None,
            batch_size: message_id.batch_size.unwrap_or(1),
            raw_id: id,
            // On a topic without a schema the version is empty.
            schema_version: metadata.schema_version.filter(|version| !version.is_empty()),
            unreadable,
            topic,
        }
    }

    /// A message that the driver could not unpack, as the broker's administration shows it.
    pub(crate) fn looked_at(
        topic: &str,
        (ledger_id, entry_id): (u64, u64),
        key: Option<String>,
        properties: BTreeMap<String, String>,
        payload: Vec<u8>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            order_key: String::new(),
            key,
            properties,
            payload,
            message_id: format!("{ledger_id}:{entry_id}:-1"),
            publish_time: Timestamp::default(),
            redeliveries: 0,
            event: None,
            document: None,
            raw_id: MessageIdData { ledger_id, entry_id, ..MessageIdData::default() },
            // It is acknowledged as a whole, whatever it is made of.
            batch_size: 1,
            schema_version: None,
            unreadable: None,
        }
    }

    /// What to claim in the inbox: the event's id, because a relay may publish an event twice; without an event what the
    /// broker calls it.
    pub fn id(&self) -> &str {
        self.properties.get(property::ID).map_or(&self.message_id, String::as_str)
    }

    /// The message for an inlet.
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming {
            topic: self.whole_topic(),
            key: self.key.as_deref(),
            properties: &self.properties,
            payload: &self.payload,
            document: self.document.as_deref().unwrap_or(&self.payload),
        }
    }

    /// The topic's name without its partition.
    pub fn whole_topic(&self) -> &str {
        whole_topic(&self.topic)
    }
}

/// A topic's name without its partition.
pub(crate) fn whole_topic(topic: &str) -> &str {
    match topic.rsplit_once("-partition-") {
        Some((whole, number)) if number.parse::<u32>().is_ok() => whole,
        _ => topic,
    }
}

/// Reads messages as events of the published language.
pub(crate) struct Reading {
    pub(crate) topics: BTreeMap<String, Topic>,
    catalogue: BTreeMap<&'static str, Descriptor>,
    largest_payload_bytes: usize,
}

impl Reading {
    pub(crate) fn new(topics: BTreeMap<String, Topic>, largest_payload_bytes: usize) -> Self {
        let topics = topics.into_values().map(|topic| (topic.name.clone(), topic)).collect();
        let catalogue = events::catalogue().into_iter().map(|event| (event.event_type, event)).collect();
        Self { topics, catalogue, largest_payload_bytes }
    }

    /// Whether the topic carries Avro: then the schema that a message was written with is needed.
    pub(crate) fn is_avro(&self, topic: &str) -> bool {
        self.topics.get(whole_topic(topic)).is_some_and(|topic| topic.encoding == Encoding::Avro)
    }

    /// The event, or why it is none: its type must be known and belong to its topic, its payload must decode, and key,
    /// subject and payload must name the same aggregate.
    pub(crate) fn event(&self, message: &Inbound, written: Option<&Schema>) -> Result<EventRecord, String> {
        if message.payload.len() > self.largest_payload_bytes {
            return Err(format!("{} bytes are too many for an event", message.payload.len()));
        }
        let topic = message.whole_topic();
        let topic = self.topics.get(topic).ok_or_else(|| format!("{topic} is no topic of events"))?;
        let said = |name: &str| message.properties.get(name).map(String::as_str);
        let needed = |name: &str| said(name).ok_or_else(|| format!("the property {name} is missing"));
        let event_type = needed(property::TYPE)?;
        let descriptor = self.catalogue.get(event_type).ok_or_else(|| {
            format!("the type {event_type:?} is not known: a newer version of alpes reads it, if it is one of ours")
        })?;
        if local_topic(event_type, descriptor.aggregate) != topic.schema.local {
            return Err(format!("{event_type} does not belong on this topic"));
        }
        let content_type = topic.encoding.content_type();
        if said(property::DATACONTENTTYPE).is_some_and(|said| said != content_type) {
            return Err(format!("the topic carries {content_type}, and the message says otherwise"));
        }
        let wrong = |error| format!("the payload is no {event_type}: {error}");
        let payload = match topic.encoding {
            Encoding::Json => {
                std::str::from_utf8(&message.payload).map_err(|error| wrong(error.to_string()))?.to_owned()
            }
            Encoding::Avro => topic.codec.decode(&message.payload, written).map_err(wrong)?,
        };
        let subject = (descriptor.subject)(&payload).map_err(wrong)?;
        let names = [("the key", message.key.as_deref()), ("ce_subject", Some(needed(property::SUBJECT)?))];
        for (place, name) in
            names.into_iter().chain([("ce_partitionkey", said(property::PARTITIONKEY).or(Some(&subject)))])
        {
            if name != Some(subject.as_str()) {
                return Err(format!(
                    "{place} is {:?}, but the payload is about {subject:?}",
                    name.unwrap_or("missing")
                ));
            }
        }
        let id = |name: &str, text: &str| text.parse().map_err(|error| format!("{name}: {error}"));
        Ok(EventRecord {
            position: needed(property::SEQUENCE)?.parse().map_err(|_| "ce_sequence is no position".to_owned())?,
            id: id(property::ID, needed(property::ID)?)?,
            aggregate: descriptor.aggregate.to_owned(),
            event_type: event_type.to_owned(),
            time: needed(property::TIME)?.parse().map_err(|error| format!("ce_time: {error}"))?,
            actor: said(property::ACTOR).unwrap_or("unknown").to_owned(),
            causation_id: said(property::CAUSATIONID).map(|text| id(property::CAUSATIONID, text)).transpose()?,
            correlation_id: said(property::CORRELATIONID).map(str::to_owned),
            subject,
            payload,
        })
    }
}
