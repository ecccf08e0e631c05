//! Consumers: readers of the log whose cursor moves in the transaction of their effect, so that effects happen exactly
//! once. A consumer sees a slice of events in order; any split of the log into slices must end in the same state. It
//! must not know what the events mean.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use kernel::{DeadLetterId, EventRecord, Fault, Kind, Result, problems};

use crate::db::{Db, Lane};
use crate::dead_letters;
use crate::event_log;
use crate::lease::{self, Fence};
use crate::sql::{OnDuplicate, Reader, Value};
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
    /// The cursor as this runner last saw or stored it.
    stored: i64,
    /// The right to run this consumer, where several processes could.
    pub fence: Option<Fence>,
}

impl Runner {
    /// A driver with the largest slices.
    pub const fn new(consumer: Consumer) -> Self {
        Self { consumer, slice: LARGEST_SLICE, passed: 0, stored: 0, fence: None }
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
        if stored != self.stored {
            // Moved by somebody else: a reset, another process, or a commit whose answer got lost.
            self.stored = stored;
            self.passed = stored;
        }
        let after = self.passed;
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

    fn handle(&mut self, db: &Db, events: &mut Vec<EventRecord>, end: i64) -> Result<()> {
        let outcome = self.transact(db, end, |this, tx| {
            if dead_letters::any(tx, this.consumer.name)? {
                let ready = this.hold_back(tx, events)?;
                this.react(tx, &ready)
            } else {
                this.react(tx, events)
            }
        });
        let Err(fault) = outcome else { return Ok(()) };
        if fault.kind() == Kind::Unavailable {
            return Err(fault);
        }
        if events.len() <= 1 {
            return self.transact(db, end, |this, tx| this.bury(tx, events, &fault));
        }
        let mut later = events.split_off(events.len() / 2);
        let middle = events.last().map_or(end, |event| event.position);
        self.handle(db, events, middle)?;
        self.handle(db, &mut later, end)
    }

    /// Runs `effect` and moves the cursor to `end`, in one transaction. Only from where this runner believes the cursor
    /// to be: whoever moved it meanwhile has had the effect already.
    fn transact(&mut self, db: &Db, end: i64, mut effect: impl FnMut(&Self, &mut Tx<'_>) -> Result<()>) -> Result<()> {
        let name = self.consumer.name;
        db.write(name, Lane::Back, "system", |tx| {
            if let Some(fence) = &self.fence {
                lease::require(tx, fence)?;
            }
            if position(tx, name)? != self.stored {
                let detail = format!("the cursor of {name} was moved by somebody else; it is read again");
                return Err(Fault::new(&problems::UNAVAILABLE, detail));
            }
            effect(self, tx)?;
            advance(tx, name, end)
        })?;
        self.stored = end;
        Ok(())
    }

    /// A panic is a fault of the event, like any other: the transaction is rolled back, and the event becomes a letter.
    fn react(&self, tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<()> {
        if events.is_empty() {
            return Ok(());
        }
        catch_unwind(AssertUnwindSafe(|| (self.consumer.react)(tx, events))).unwrap_or_else(|panic| {
            let words = panic.downcast_ref::<&str>().copied();
            let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
            Err(Fault::internal(format!("panic: {}", words.unwrap_or("without words"))))
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

    fn bury(&self, tx: &mut Tx<'_>, events: &[EventRecord], fault: &Fault) -> Result<()> {
        for event in events {
            tracing::error!(consumer = self.consumer.name, position = event.position, event_type = %event.event_type, %fault, "dead letter");
        }
        let letters: Vec<_> = events.iter().map(|event| (event, "failed", fault.to_string())).collect();
        dead_letters::add(tx, self.consumer.name, &letters)
    }

    /// Tries the letters of `id`'s subject again, in order, up to the first that fails again; answers how many went
    /// well. Letters that come in meanwhile are tried too. Faults: `dead_letter_not_found`, and that of the failing
    /// letter.
    pub fn replay(&self, db: &Db, id: DeadLetterId) -> Result<usize> {
        let name = self.consumer.name;
        let (owner, subject) = db.read(|reader| dead_letters::open(reader, id))?;
        if owner != name {
            return Err(Fault::internal(format!("{id} belongs to {owner}, not to {name}")));
        }
        let mut replayed = 0;
        // The next letter is asked for in the transaction that resolves it, so that no letter has its effect twice.
        let one = |tx: &mut Tx<'_>| {
            let Some((letter, event)) = dead_letters::first(tx, name, &subject)? else { return Ok(false) };
            self.react(tx, std::slice::from_ref(&event))?;
            dead_letters::resolve(tx, letter, "replayed")?;
            Ok(true)
        };
        loop {
            match db.write(name, Lane::Front, "system", one) {
                Ok(true) => replayed += 1,
                Ok(false) => return Ok(replayed),
                Err(fault) if fault.kind() == Kind::Unavailable => return Err(fault),
                Err(fault) => {
                    db.write(name, Lane::Front, "system", |tx| dead_letters::failed_again(tx, name, &subject, &fault))?;
                    return Err(fault);
                }
            }
        }
    }
}

/// Stores how far these runners have come, also over what they only passed over, so that other processes can show it.
/// Whoever calls it holds the consumers' leases: a runner whose cursor was moved by somebody else is left out.
pub fn note<'r>(tx: &mut Tx<'_>, runners: impl Iterator<Item = &'r mut Runner>) -> Result<()> {
    let stored: BTreeMap<String, i64> = positions(tx)?.into_iter().collect();
    let is_ahead = |runner: &&mut Runner| {
        runner.passed > runner.stored && stored.get(runner.name()).copied().unwrap_or(0) == runner.stored
    };
    let ahead: Vec<(&str, i64)> =
        runners.filter(is_ahead).map(|runner| (runner.consumer.name, runner.passed)).collect();
    let rows: Vec<[Value<'_>; 3]> =
        ahead.iter().map(|&(name, position)| [name.into(), 0.into(), position.into()]).collect();
    store(tx, &rows)
}

/// Gives up on one dead letter and lets those behind it wait for a replay. Fault: `dead_letter_not_found`.
pub fn skip(tx: &mut Tx<'_>, id: DeadLetterId) -> Result<()> {
    dead_letters::open(tx, id)?;
    dead_letters::resolve(tx, id, "skipped")
}

/// The consumer that a dead letter belongs to. Fault: `dead_letter_not_found`.
pub fn owner(reader: &Reader<'_>, id: DeadLetterId) -> Result<String> {
    Ok(dead_letters::open(reader, id)?.0)
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

/// Sets the cursor back to the beginning: only for projections, whose tables are emptied in the same transaction. Open
/// dead letters are closed, because their events come again.
pub fn reset(tx: &mut Tx<'_>, consumer: &str) -> Result<()> {
    dead_letters::resolve_all(tx, consumer, "reset")?;
    advance(tx, consumer, 0)
}

/// Sets a cursor.
pub(crate) fn advance(tx: &mut Tx<'_>, consumer: &str, position: i64) -> Result<()> {
    store(tx, &[[consumer.into(), 0.into(), position.into()]])
}

fn store(tx: &mut Tx<'_>, rows: &[[Value<'_>; 3]]) -> Result<()> {
    let replace = OnDuplicate::Replace { key: &["consumer", "shard"] };
    tx.insert("consumer_cursor", ["consumer", "shard", "position"], rows, replace)
}

#[cfg(test)]
mod tests;
