//! Dead letters on the broker: the message as it came, on a topic of its own beside its topic, with the reason.

use std::collections::{BTreeMap, BTreeSet};

use kernel::Result;
use pulsar::producer::Message;

use crate::inbound::Inbound;
use crate::link::{LARGEST_PAYLOAD_BYTES, Link};
use crate::options::Options;
use crate::topics;

/// What is kept of a payload that leaves no room for the reason.
const KEPT_BYTES: usize = 64 * 1024;
const LONGEST_REASON_BYTES: usize = 1_000;

/// The topic for the dead letters of a subscription.
fn topic(message: &Inbound, subscription: &str) -> String {
    format!("{}-{subscription}-DLQ", message.whole_topic())
}

/// Sends letters, each with its reason, and waits until the broker has them.
pub(crate) fn send(link: &mut Link, options: &Options, subscription: &str, dead: &[(Inbound, String)]) -> Result<()> {
    let letters: Vec<(String, Message)> = dead
        .iter()
        .map(|(message, reason)| (topic(message, subscription), letter(subscription, message, reason)))
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
        properties.insert("dead_payload_bytes".to_owned(), payload.len().to_string());
        payload.truncate(KEPT_BYTES);
    }
    properties.extend([
        ("dead_reason".to_owned(), reason[..end].to_owned()),
        ("dead_attempts".to_owned(), (message.redeliveries + 1).to_string()),
        ("dead_subscription".to_owned(), subscription.to_owned()),
        // The names that Pulsar's own clients give.
        ("REAL_TOPIC".to_owned(), message.topic.clone()),
        ("ORIGIN_MESSAGE_ID".to_owned(), message.message_id.clone()),
    ]);
    Message {
        payload,
        properties: properties.into_iter().collect(),
        partition_key: message.key.clone(),
        ..Message::default()
    }
}
