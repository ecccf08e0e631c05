//! Bridges to other people's topics. Outbound, an event becomes any messages, in any shape; inbound, any message becomes a
//! command, whose effect happens once. It must not know a broker, nor what a message means: who carries messages is told
//! elsewhere, and what they mean is told by the functions of an [`Inlet`] or an [`Outlet`].

use std::collections::BTreeMap;

use kernel::{EventRecord, Fault, Result, Timestamp, digest16, hex};
use serde_json::Value;

use crate::db::{Db, Lane};
use crate::inbox;
use crate::sql::Reader;
use crate::tx::Tx;

/// The property that says which installation a bridged message comes from, so that it is not taken in again there.
pub const ORIGIN: &str = "alpes-origin";

/// A message as it came from a topic.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'m> {
    /// The full name of its topic, without partition.
    pub topic: &'m str,
    /// Its key.
    pub key: Option<&'m str>,
    /// Its properties.
    pub properties: &'m BTreeMap<String, String>,
    /// Its payload, as it is on the topic.
    pub payload: &'m [u8],
    /// The payload as JSON where the message names a schema that it was written with (Avro); otherwise the payload.
    pub document: &'m [u8],
}

impl Incoming<'_> {
    /// The property with this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// What is claimed in the inbox. The topic is part of it: ids of different senders are strangers to each other.
    fn claim(&self, id: Option<&str>) -> String {
        let topic = self.topic.as_bytes();
        hex(&match id {
            Some(id) => digest16(&[b"id", topic, id.as_bytes()]),
            None => digest16(&[b"content", topic, self.payload]),
        })
    }
}

/// What a message asks for.
#[derive(Debug, Clone)]
pub struct Command<C> {
    /// What its sender calls it, the same whenever he sends it again; none: the same content is the same command.
    pub id: Option<String>,
    /// What is to be done.
    pub body: C,
}

/// Reads a message; none: it is nothing for us. A fault makes it a dead letter with that reason.
pub type Read<C> = Box<dyn Fn(&Incoming<'_>, Timestamp) -> Result<Option<Command<C>>> + Send + Sync>;

/// Has the effects of commands in one transaction and answers for each, in order, whether it was refused; a refused one
/// must have changed nothing. A fault of the whole undoes everything: then the commands are tried in smaller parts.
pub type Apply<C> = Box<dyn Fn(&mut Tx<'_>, Vec<C>) -> Result<Vec<Result<()>>> + Send + Sync>;

/// The way in for messages of somebody else's topics.
pub struct Inlet<C> {
    /// Its name: of its subscription, its claims and its transactions, so it never changes. Also who did it, in events.
    pub name: &'static str,
    /// Message → command.
    pub read: Read<C>,
    /// Commands → effects.
    pub apply: Apply<C>,
}

impl<C: Clone> Inlet<C> {
    /// Takes messages in: what comes from `origin`, which is this installation, is passed over; the others are read and
    /// have their effects in one transaction, each once. Answers those that were refused, by their place, and why: they
    /// are not claimed, so that they have their chance when they come again.
    pub fn take(&self, db: &Db, origin: &str, messages: &[Incoming<'_>]) -> Result<Vec<(usize, Fault)>> {
        let now = db.now();
        let (mut commands, mut refused) = (Vec::with_capacity(messages.len()), Vec::new());
        for (place, message) in messages.iter().enumerate() {
            if message.property(ORIGIN) == Some(origin) {
                continue;
            }
            match (self.read)(message, now) {
                Ok(Some(Command { id, body })) => commands.push((place, message.claim(id.as_deref()), body)),
                Ok(None) => {}
                Err(fault) => refused.push((place, fault)),
            }
        }
        if !commands.is_empty() {
            refused.extend(db.write(self.name, Lane::Back, self.name, |tx| self.effects(tx, &commands))?);
        }
        refused.sort_by_key(|(place, _)| *place);
        Ok(refused)
    }

    fn effects(&self, tx: &mut Tx<'_>, commands: &[(usize, String, C)]) -> Result<Vec<(usize, Fault)>> {
        let ids: Vec<&str> = commands.iter().map(|(_, id, _)| id.as_str()).collect();
        let fresh = inbox::fresh(tx, self.name, &ids)?;
        let fresh: Vec<_> =
            commands.iter().zip(fresh).filter_map(|(command, fresh)| fresh.then_some(command)).collect();
        let answers = (self.apply)(tx, fresh.iter().map(|(_, _, body)| body.clone()).collect())?;
        if answers.len() != fresh.len() {
            return Err(Fault::internal(format!(
                "{}: {} answers for {} commands",
                self.name,
                answers.len(),
                fresh.len()
            )));
        }
        let (mut done, mut refused) = (Vec::with_capacity(fresh.len()), Vec::new());
        for ((place, id, _), answer) in fresh.into_iter().zip(answers) {
            match answer {
                Ok(()) => done.push(id.as_str()),
                Err(fault) => refused.push((*place, fault)),
            }
        }
        inbox::claim(tx, self.name, &done)?;
        Ok(refused)
    }
}

/// How a message's payload is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// One JSON document.
    Json(Value),
    /// Avro binary along a schema, which is declared on the topic.
    Avro {
        /// The schema's definition, as JSON text.
        schema: &'static str,
        /// What is written; a field that the schema does not know is refused.
        value: Value,
    },
    /// These bytes.
    Plain(Vec<u8>),
}

/// A message for somebody else's topic.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The topic's full name.
    pub topic: String,
    /// Its key: messages of one key stay in order.
    pub key: Option<String>,
    /// Its properties, beside the mark of its origin.
    pub properties: BTreeMap<String, String>,
    /// Its payload.
    pub content: Content,
    /// The event whose CloudEvents attributes go along as properties; none: no envelope.
    pub envelope: Option<EventRecord>,
}

/// Translates events, in order, into messages: one, several or none for each. It may ask the owners' tables, which show
/// what is now and not what was then.
pub type Translate = Box<dyn Fn(&Reader<'_>, &[EventRecord]) -> Result<Vec<Outgoing>> + Send + Sync>;

/// The way out for events to somebody else's topics.
pub struct Outlet {
    /// Its name: of its cursor and its lease (`relay:<name>`), so it never changes.
    pub name: &'static str,
    /// The event types that it translates; the others are passed over.
    pub types: Vec<&'static str>,
    /// Events → messages.
    pub translate: Translate,
}

impl Outlet {
    /// The messages of those of `events` that it translates.
    pub fn messages(&self, db: &Db, events: &[EventRecord]) -> Result<Vec<Outgoing>> {
        let wanted: Vec<EventRecord> =
            events.iter().filter(|event| self.types.contains(&event.event_type.as_str())).cloned().collect();
        if wanted.is_empty() { Ok(Vec::new()) } else { db.read(|reader| (self.translate)(reader, &wanted)) }
    }
}

#[cfg(test)]
mod tests;
