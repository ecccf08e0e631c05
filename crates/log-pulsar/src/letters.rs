//! Dead letters on the broker: the message as it came, on a topic of its own beside its topic, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use kernel::Result;
use pulsar::producer::Message;

use crate::inbound::Inbound;
use crate::link::{LARGEST_PAYLOAD_BYTES, Link};
use crate::options::Options;
use crate::topics;

/// What a letter says beside what the message said. Where Pulsar's own clients have a name, it is theirs.
pub(crate) mod property {
    pub(crate) const REASON: &str = "dead_reason";
    pub(crate) const ATTEMPTS: &str = "dead_attempts";
    pub(crate) const SUBSCRIPTION: &str = "dead_subscription";
    /// Only where the payload was cut: how long it was.
    pub(crate) const PAYLOAD_BYTES: &str = "dead_payload_bytes";
    /// Only where the message named one.
    pub(crate) const SCHEMA_VERSION: &str = "dead_schema_version";
    pub(crate) const REAL_TOPIC: &str = "REAL_TOPIC";
    pub(crate) const MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
    pub(crate) const ALL: [&str; 7] =
        [REASON, ATTEMPTS, SUBSCRIPTION, PAYLOAD_BYTES, SCHEMA_VERSION, REAL_TOPIC, MESSAGE_ID];
}

/// What is kept of a payload that leaves no room for the reason.
const KEPT_BYTES: usize = 64 * 1024;
const LONGEST_REASON_BYTES: usize = 1_000;

/// The topic for the dead letters of a subscription to the topic `real`.
pub(crate) fn topic(real: &str, subscription: &str) -> String {
    format!("{real}-{subscription}-DLQ")
}

/// Sends letters, each with its reason, and waits until the broker has them.
pub(crate) fn send(link: &mut Link, options: &Options, subscription: &str, dead: &[(Inbound, String)]) -> Result<()> {
    let letters: Vec<(String, Message)> = dead
        .iter()
        .map(|(message, reason)| (topic(message.whole_topic(), subscription), letter(subscription, message, reason)))
        .collect();
    let topics: BTreeSet<&String> = letters.iter().map(|(topic, _)| topic).collect();
    let fresh: Vec<String> = topics.into_iter().filter(|topic| !link.is_prepared(topic)).cloned().collect();
    fresh.iter().for_each(|topic| topics::make_letters_topic(options, topic));
    link.prepare(options, fresh.into_iter().map(|topic| (topic, None)).collect())?;
    link.send(options, letters)
}

fn letter(subscription: &str, message: &Inbound, reason: &str) -> Message {
    let mut properties: BTreeMap<String, String> = message.properties.clone();
    let end = (0..=LONGEST_REASON_BYTES.min(reason.len())).rev().find(|&at| reason.is_char_boundary(at)).unwrap_or(0);
    let mut payload = message.payload.clone();
    if payload.len() > LARGEST_PAYLOAD_BYTES {
        properties.insert(property::PAYLOAD_BYTES.to_owned(), payload.len().to_string());
        payload.truncate(KEPT_BYTES);
    }
    let said = [
        (property::REASON, reason[..end].to_owned()),
        (property::ATTEMPTS, (message.redeliveries + 1).to_string()),
        (property::SUBSCRIPTION, subscription.to_owned()),
        (property::REAL_TOPIC, message.topic.clone()),
        (property::MESSAGE_ID, message.message_id.clone()),
    ];
    let version = message.schema_version.as_deref().and_then(|bytes| Some(i64::from_be_bytes(bytes.try_into().ok()?)));
    let version = version.map(|version| (property::SCHEMA_VERSION, version.to_string()));
    properties.extend(said.into_iter().chain(version).map(|(name, value)| (name.to_owned(), value)));
    Message {
        payload,
        properties: properties.into_iter().collect(),
        partition_key: message.key.clone(),
        ..Message::default()
    }
}
