//! What an operator does with dead letters on the broker: look at them, send them back to their topic after the repair, or
//! give them up. A letter leaves its topic when the broker has the message again, so a crash in between sends it twice; that
//! its effect happens once is the inbox's business.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kernel::{Result, Timestamp};
use pulsar::producer::Message;
use pulsar::proto::{Schema, schema::Type};

use crate::faults;
use crate::inbound::{Inbound, whole_topic};
use crate::letters::{self, property};
use crate::link::{ANSWER_LIMIT, Link};
use crate::options::Options;
use crate::receiver::{Receiver, Subscribing};
use crate::topics::{self, LETTERS};

/// The letters that are looked at in one go.
const SLICE: usize = 512;
const WAIT: Duration = Duration::from_millis(500);

/// Which letters, and what to do with them.
#[derive(Debug, Clone)]
pub struct Letters {
    /// The full name of the topic that the messages were on.
    pub topic: String,
    /// The subscription that could not handle them.
    pub subscription: String,
    /// What to do.
    pub wanted: Wanted,
    /// Only those whose reason has these words.
    pub reason: Option<String>,
    /// So many at most; the oldest first.
    pub limit: usize,
}

/// What to do with letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Only look.
    Look,
    /// Send them back to their topic.
    Replay,
    /// Give them up.
    Skip,
}

/// What became of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It lies where it lay.
    Left,
    /// It lies where it lay, because its payload was too large to be kept: its sender must send it again.
    Incomplete,
    /// It is on its topic again.
    Sent,
    /// It is gone.
    Skipped,
}

/// A dead letter on the broker.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Letter {
    /// What the broker called the message.
    pub message_id: String,
    /// The message's key.
    pub key: Option<String>,
    /// Why it could not be handled.
    pub reason: String,
    /// How often it was tried.
    pub attempts: String,
    /// When the letter was written.
    pub since: Timestamp,
    /// The payload's length.
    pub payload_bytes: usize,
    /// What became of it.
    pub fate: Fate,
}

impl Letters {
    /// Does it; answers the letters, oldest first. Faults: `broker_unavailable`, `broker_refused`; letters that were sent by
    /// then are sent.
    pub fn run(&self, options: &Options) -> Result<Vec<Letter>> {
        let dead = letters::topic(&self.topic, &self.subscription);
        // Asked first, because to subscribe to a topic that is not there makes it.
        let Some(stats) = topics::statistics(options, &dead)? else { return Ok(Vec::new()) };
        let waiting = stats["subscriptions"][LETTERS]["msgBacklog"].as_u64().or_else(|| stats["msgInCounter"].as_u64());
        let mut waiting = waiting.and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        if waiting == 0 {
            return Ok(Vec::new());
        }
        let subscribing = Subscribing { name: LETTERS, from_the_beginning: true, queue: SLICE };
        let mut receiver = Receiver::open(options, &[dead], &subscribing)?;
        let (mut found, mut back, mut heard) = (Vec::new(), Back::default(), now());
        while waiting > 0 && found.len() < self.limit {
            let messages = receiver.receive(options, waiting.min(SLICE), WAIT, now)?;
            if messages.is_empty() {
                if heard.elapsed() > ANSWER_LIMIT {
                    let what =
                        format!("{waiting} letters of {} do not come: does somebody else see to them?", self.topic);
                    return Err(faults::unavailable(options, &what, "letters that do not come"));
                }
                continue;
            }
            heard = now();
            waiting = waiting.saturating_sub(messages.len());
            let matches = |message: &Inbound| self.reason.as_ref().is_none_or(|words| reason(message).contains(words));
            let chosen = messages.into_iter().filter(matches).take(self.limit - found.len()).collect();
            found.extend(self.slice(options, &mut receiver, &mut back, chosen)?);
        }
        receiver.flush(options, now);
        Ok(found)
    }

    /// Sees to letters, in order; what goes is acknowledged after the broker's receipt.
    fn slice(
        &self,
        options: &Options,
        receiver: &mut Receiver,
        back: &mut Back,
        messages: Vec<Inbound>,
    ) -> Result<Vec<Letter>> {
        let letters: Vec<Letter> = messages.iter().map(|message| self.letter(message)).collect();
        let mut gone = Vec::new();
        for (message, letter) in messages.into_iter().zip(&letters) {
            match letter.fate {
                Fate::Left | Fate::Incomplete => {}
                Fate::Skipped => gone.push(message),
                Fate::Sent => {
                    back.add(options, &self.topic, &message)?;
                    gone.push(message);
                }
            }
        }
        back.send(options, &self.topic)?;
        receiver.acknowledge(options, &gone)?;
        Ok(letters)
    }

    fn letter(&self, message: &Inbound) -> Letter {
        let said = |name: &str| message.properties.get(name).cloned();
        let cut = said(property::PAYLOAD_BYTES).and_then(|bytes| bytes.parse().ok());
        let is_of_topic = said(property::REAL_TOPIC).is_some_and(|real| whole_topic(&real) == self.topic);
        Letter {
            message_id: said(property::MESSAGE_ID).unwrap_or_else(|| message.message_id.clone()),
            key: message.key.clone(),
            reason: reason(message).to_owned(),
            attempts: said(property::ATTEMPTS).unwrap_or_default(),
            since: message.publish_time,
            payload_bytes: cut.unwrap_or(message.payload.len()),
            fate: match self.wanted {
                Wanted::Look => Fate::Left,
                Wanted::Skip => Fate::Skipped,
                Wanted::Replay if cut.is_some() => Fate::Incomplete,
                // Somebody else's letter: nobody knows what it would do there.
                Wanted::Replay if !is_of_topic => Fate::Left,
                Wanted::Replay => Fate::Sent,
            },
        }
    }
}

fn reason(message: &Inbound) -> &str {
    message.properties.get(property::REASON).map_or("", String::as_str)
}

/// The way back to a topic: a producer declares one schema, so there is a connection for messages of one version.
#[derive(Default)]
struct Back {
    link: Option<(Option<i64>, Link)>,
    waiting: Vec<(String, Message)>,
}

impl Back {
    fn add(&mut self, options: &Options, topic: &str, message: &Inbound) -> Result<()> {
        let version = message.properties.get(property::SCHEMA_VERSION).and_then(|version| version.parse().ok());
        if self.link.as_ref().is_none_or(|(of, _)| *of != version) {
            // Those before it first: the order of keys must hold over versions.
            self.send(options, topic)?;
            let mut link = Link::open(options)?;
            link.prepare(options, vec![(topic.to_owned(), declared(options, topic, version)?)])?;
            self.link = Some((version, link));
        }
        let is_ours = |name: &str| property::ALL.contains(&name);
        let properties: BTreeMap<String, String> =
            message.properties.iter().filter(|(name, _)| !is_ours(name)).map(|(n, v)| (n.clone(), v.clone())).collect();
        let again = Message {
            payload: message.payload.clone(),
            properties: properties.into_iter().collect(),
            partition_key: message.key.clone(),
            ..Message::default()
        };
        self.waiting.push((topic.to_owned(), again));
        Ok(())
    }

    fn send(&mut self, options: &Options, topic: &str) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        match &mut self.link {
            Some((_, link)) if !waiting.is_empty() => link.send(options, waiting),
            _ if waiting.is_empty() => Ok(()),
            _ => Err(faults::unavailable(options, &format!("sending to {topic}"), "no connection")),
        }
    }
}

/// The schema that messages of this version are declared with; the newest where that one is gone, or none is named.
fn declared(options: &Options, topic: &str, version: Option<i64>) -> Result<Option<Schema>> {
    match version.map(|version| topics::schema_at(options, topic, Some(version))).transpose()?.flatten() {
        None => topics::schema_at(options, topic, None),
        found => Ok(found),
    }
    .map(|schema| schema.filter(|schema| schema.r#type() != Type::None))
}

#[expect(clippy::disallowed_methods, reason = "a driver adapter: how long nothing comes is measured here")]
fn now() -> Instant {
    Instant::now()
}
