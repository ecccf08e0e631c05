//! Consumers: readers of the log whose cursor moves in the transaction of their effect, so that effects happen exactly
//! once. A consumer sees a slice of events in order; any split of the log into slices must end in the same state. It
//! must not know what the events mean.

use std::collections::BTreeSet;

use kernel::{DeadLetterId, EventRecord, Fault, Kind, Result};

use crate::db::{Db, Lane};
use crate::dead_letters;
use crate::event_log;
use crate::sql::{OnDuplicate, Reader};
use crate::tx::Tx;

/// What a consumer does with a slice: everything inside the transaction, nothing outside.
pub type React = Box<dyn Fn(&mut Tx<'_>, &[EventRecord]) -> Result<()> + Send + Sync>;

/// A reader of the log.
pub struct Consumer {
    /// Its name: the key of its cursor, so it never changes.
    pub name: &'static str,
    /// The event types that it handles; the others are passed over.
    pub types: Vec<&'static str>,
    /// What it does.
    pub react: React,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The cursor is at the head.
    Idle,
    /// This many events were handled or passed over.
    Moved(i64),
}

/// The events of one transaction at most.
const LARGEST_SLICE: usize = 512;
/// How many positions are looked at for one slice.
const WINDOW: i64 = 4_096;

/// Drives one consumer, a step at a time.
pub struct Runner {
    consumer: Consumer,
    /// The events of the next transaction at most; tests and the simulator choose their own splits.
    pub slice: usize,
    /// Positions without an event for this consumer are passed over in memory; only the next effect stores the cursor.
    passed: i64,
}

impl Runner {
    /// A driver with the largest slices.
    pub const fn new(consumer: Consumer) -> Self {
        Self { consumer, slice: LARGEST_SLICE, passed: 0 }
    }

    /// How far it has come, including what it passed over.
    pub const fn position(&self) -> i64 {
        self.passed
    }

    /// The consumer's name.
    pub const fn name(&self) -> &'static str {
        self.consumer.name
    }

    /// Handles the next slice in one transaction. An event that cannot be handled becomes a dead letter, found by
    /// halving the slice; a fault of the database itself is answered, and nothing has happened.
    pub fn step(&mut self, db: &Db) -> Result<Step> {
        let stored = db.read(|reader| position(reader, self.consumer.name))?;
        let after = stored.max(self.passed);
        let head = db.head();
        if after >= head {
            return Ok(Step::Idle);
        }
        let up_to = head.min(after + WINDOW);
        let slice = self.slice.max(1);
        let mut events = db.read(|reader| event_log::range(reader, after, up_to, &self.consumer.types, slice))?;
        let end = if events.len() < slice { up_to } else { events.last().map_or(up_to, |event| event.position) };
        if !events.is_empty() || end - stored >= WINDOW {
            self.handle(db, &mut events, end)?;
        }
        self.passed = end;
        Ok(Step::Moved(end - after))
    }

    fn handle(&self, db: &Db, events: &mut Vec<EventRecord>, end: i64) -> Result<()> {
        let outcome = self.transact(db, events, end);
        let Err(fault) = outcome else { return Ok(()) };
        if fault.kind() == Kind::Unavailable {
            return Err(fault);
        }
        if events.len() <= 1 {
            return self.bury(db, events, end, &fault);
        }
        let mut later = events.split_off(events.len() / 2);
        let middle = events.last().map_or(end, |event| event.position);
        self.handle(db, events, middle)?;
        self.handle(db, &mut later, end)
    }

    fn transact(&self, db: &Db, events: &[EventRecord], end: i64) -> Result<()> {
        db.write(self.consumer.name, Lane::Back, "system", |tx| {
            if dead_letters::any(tx, self.consumer.name)? {
                let ready = self.hold_back(tx, events)?;
                (self.consumer.react)(tx, &ready)?;
            } else if !events.is_empty() {
                (self.consumer.react)(tx, events)?;
            }
            advance(tx, self.consumer.name, end)
        })
    }

    /// Puts the events of blocked subjects behind the letter that blocks them, and answers the others.
    fn hold_back(&self, tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<Vec<EventRecord>> {
        let subjects: Vec<&str> = events.iter().map(|event| event.subject.as_str()).collect();
        let blocked: BTreeSet<String> = dead_letters::blocked(tx, self.consumer.name, &subjects)?.into_iter().collect();
        let (waiting, ready): (Vec<_>, Vec<_>) = events.iter().partition(|event| blocked.contains(&event.subject));
        let letters: Vec<(&EventRecord, &str, String)> = waiting
            .into_iter()
            .map(|event| (event, "waiting", "an earlier event of the subject failed".to_owned()))
            .collect();
        dead_letters::add(tx, self.consumer.name, &letters)?;
        Ok(ready.into_iter().cloned().collect())
    }

    fn bury(&self, db: &Db, events: &[EventRecord], end: i64, fault: &Fault) -> Result<()> {
        db.write(self.consumer.name, Lane::Back, "system", |tx| {
            for event in events {
                tracing::error!(consumer = self.consumer.name, position = event.position, event_type = %event.event_type, %fault, "dead letter");
                dead_letters::add(tx, self.consumer.name, &[(event, "failed", fault.to_string())])?;
            }
            advance(tx, self.consumer.name, end)
        })
    }

    /// Tries the letters of `id`'s subject again, in order, up to the first that fails again. Faults:
    /// `dead_letter_not_found`, and that of the failing letter.
    pub fn replay(&self, db: &Db, id: DeadLetterId) -> Result<usize> {
        let (_, letters) = db.read(|reader| dead_letters::chain(reader, id))?;
        for (letter, event) in &letters {
            db.write(self.consumer.name, Lane::Front, "system", |tx| {
                (self.consumer.react)(tx, std::slice::from_ref(event))?;
                dead_letters::resolve(tx, *letter, "replayed")
            })?;
        }
        Ok(letters.len())
    }
}

/// Gives up on one dead letter and lets those behind it wait for a replay. Fault: `dead_letter_not_found`.
pub fn skip(tx: &mut Tx<'_>, id: DeadLetterId) -> Result<()> {
    dead_letters::chain(tx, id)?;
    dead_letters::resolve(tx, id, "skipped")
}

/// The consumer that a dead letter belongs to. Fault: `dead_letter_not_found`.
pub fn owner(reader: &Reader<'_>, id: DeadLetterId) -> Result<String> {
    Ok(dead_letters::chain(reader, id)?.0)
}

/// How far `consumer` has come.
pub fn position(reader: &Reader<'_>, consumer: &str) -> Result<i64> {
    let sql = "SELECT position FROM consumer_cursor WHERE consumer = ? AND shard = 0";
    Ok(reader.query_one(sql, &[consumer.into()], |row| row.int(0))?.unwrap_or(0))
}

/// All consumers and how far they have come.
pub fn positions(reader: &Reader<'_>) -> Result<Vec<(String, i64)>> {
    let sql = "SELECT consumer, position FROM consumer_cursor ORDER BY consumer, shard";
    reader.query(sql, &[], |row| Ok((row.text(0)?.to_owned(), row.int(1)?)))
}

/// Sets the cursor back to the beginning: only for projections, whose tables are emptied in the same transaction.
pub fn reset(tx: &mut Tx<'_>, consumer: &str) -> Result<()> {
    advance(tx, consumer, 0)
}

fn advance(tx: &mut Tx<'_>, consumer: &str, position: i64) -> Result<()> {
    let row = [consumer.into(), 0.into(), position.into()];
    tx.insert(
        "consumer_cursor",
        ["consumer", "shard", "position"],
        &[row],
        OnDuplicate::Replace { key: &["consumer", "shard"] },
    )
}
