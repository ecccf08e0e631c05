//! The scenarios of `platform::conformance` over a subscription on the broker, whose effects are in a database.

use std::sync::Arc;
use std::time::Duration;

use kernel::{Fault, Result, problems};
use log_pulsar::{Inbound, PulsarSink, Subscription, SubscriptionOptions, topics};
use platform::conformance::{self, Effect, Note, Way};
use platform::{Db, Lane, Sink, inbox};
use serde_json::Value;

use crate::broker::{Broker, suspended};
use crate::subscription::database;

const NAME: &str = "conformance";
/// So many messages have had their effect when the process dies in the middle of a slice.
const BEFORE_THE_CRASH: usize = 20;

struct OnBroker {
    broker: Broker,
    topic: String,
    sink: PulsarSink,
    subscription: Option<Subscription>,
    effect: Effect,
    db: Arc<Db>,
    /// Who claims in the inbox: another one each time that everything shall have its effect again.
    claimant: String,
}

impl OnBroker {
    fn open(effect: Effect) -> Option<Box<dyn Way>> {
        let mut broker = Broker::find("a subscription conforms")?;
        // What moves and what is read is a partition.
        broker.options.partitions = 2;
        topics::setup(&broker.options).unwrap();
        Some(Box::new(Self {
            topic: broker.options.topic("partners.partner"),
            sink: PulsarSink::new(broker.options.clone()).unwrap(),
            subscription: None,
            effect,
            db: Arc::new(database()),
            claimant: NAME.to_owned(),
            broker,
        }))
    }

    /// One step of the subscription, which hands over to `handle`.
    fn hand_over(&mut self, handle: impl FnMut(&[Inbound]) -> Result<()>) -> Result<()> {
        let subscription = self.subscription.get_or_insert_with(|| {
            let how = SubscriptionOptions {
                wait: Duration::from_millis(200),
                ..SubscriptionOptions::new(NAME, vec![self.topic.clone()])
            };
            Subscription::new(self.broker.options.clone(), how).unwrap()
        });
        subscription.step(handle).map(drop)
    }

    fn admin(&self, method: &str, what: &str) -> (u16, String) {
        self.broker.admin(method, &format!("{}{what}", self.topic.replacen("://", "/", 1)), "")
    }
}

/// The effect of what is fresh, and the claims on it, in one transaction.
fn once(db: &Db, claimant: &str, effect: &Effect, messages: &[Inbound]) -> Result<()> {
    db.write("effect", Lane::Back, "tester", |tx| {
        let ids: Vec<&str> = messages.iter().map(Inbound::id).collect();
        let fresh = inbox::claim(tx, claimant, &ids)?;
        let notes: Vec<Note> =
            messages.iter().zip(fresh).filter(|(_, fresh)| *fresh).map(|(message, _)| note(message)).collect();
        if notes.is_empty() { Ok(()) } else { effect(tx, &notes) }
    })
}

/// The number is the event's position, the key is its reason.
fn note(message: &Inbound) -> Note {
    let event = message.event.as_ref().unwrap();
    let payload: Value = serde_json::from_str(&event.payload).unwrap();
    Note { key: payload["reason"].as_str().unwrap().parse().unwrap(), number: event.position }
}

impl Way for OnBroker {
    fn send(&mut self, notes: &[Note]) {
        let events: Vec<_> = notes.iter().map(|note| suspended(note.number, note.key, &note.key.to_string())).collect();
        // As a relay does: what may not have arrived is sent again.
        while let Err(fault) = self.sink.deliver(&events) {
            println!("  {fault}");
        }
    }

    fn step(&mut self) -> Result<()> {
        let (db, claimant, effect) = (Arc::clone(&self.db), self.claimant.clone(), Arc::clone(&self.effect));
        let outcome = self.hand_over(|messages| once(&db, &claimant, &effect, messages));
        if outcome.is_err() {
            std::thread::sleep(Duration::from_millis(200));
        }
        outcome
    }

    fn crash(&mut self) {
        let (db, claimant, effect) = (Arc::clone(&self.db), self.claimant.clone(), Arc::clone(&self.effect));
        let mut is_dead = false;
        while !is_dead {
            let outcome = self.hand_over(|messages| {
                is_dead = true;
                once(&db, &claimant, &effect, &messages[..messages.len().min(BEFORE_THE_CRASH)])?;
                Err(Fault::new(&problems::UNAVAILABLE, "killed"))
            });
            assert_eq!(outcome.is_err(), is_dead, "{outcome:?}");
        }
        // Nothing is said to the broker any more.
        self.subscription = None;
    }

    fn restart(&mut self) {
        if let Some(subscription) = self.subscription.take() {
            subscription.close();
        }
    }

    fn lose_connection(&mut self) {
        assert_eq!(self.admin("PUT", "/unload").0, 204);
    }

    fn rewind(&mut self) {
        self.restart();
        let (status, text) = self.admin("POST", &format!("/subscription/{NAME}/resetcursor/0"));
        assert!((200..300).contains(&status), "{status} {text}");
        self.claimant += "-again";
    }

    fn dead(&mut self) -> Vec<(i64, String)> {
        let suffix = format!("-{NAME}-DLQ");
        let (status, text) = self.admin("GET", &format!("{suffix}/stats"));
        let stats: Value = if status == 200 { serde_json::from_str(&text).unwrap() } else { Value::Null };
        let count = usize::try_from(stats["msgInCounter"].as_u64().unwrap_or(0)).unwrap();
        let letters = if count > 0 { self.broker.read(&format!("{}{suffix}", self.topic), count) } else { Vec::new() };
        let dead = |properties: &std::collections::BTreeMap<String, String>| {
            (properties["ce_sequence"].parse().unwrap(), properties["dead_reason"].clone())
        };
        letters.iter().map(|letter| dead(&letter.properties)).collect()
    }

    fn replay(&mut self) -> bool {
        false
    }

    fn db(&self) -> &Db {
        &self.db
    }
}

#[test]
fn a_subscription_conforms() {
    conformance::run(&OnBroker::open);
}
