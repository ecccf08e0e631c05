//! A write transaction: one "now", the actor, ids, set-based writes and the publication of events.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use kernel::{EventId, EventRecord, Fault, Id, IdSource, NewEvent, Result, Timestamp, problems};

use crate::connection::{Class, Failure, Head, Write};
use crate::db::guard;
use crate::event_log;
use crate::sql::{OnDuplicate, Reader, Value};

/// A write transaction. Everything done through it becomes visible together, or not at all: once a write has failed,
/// nothing can be committed any more.
pub struct Tx<'c> {
    pub(crate) reader: Reader<'c>,
    pub(crate) now: Timestamp,
    pub(crate) actor: &'c str,
    ids: &'c Mutex<IdSource>,
    /// The log's head as this transaction sees it, once it was asked for; nobody else can move it before the commit.
    pub(crate) head: Option<i64>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) outcome: Outcome,
}

/// What became of a transaction so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The last position that it gave out, and the event there.
    pub(crate) published: Option<(i64, EventId)>,
    /// Whether it changed any row.
    pub(crate) changed: bool,
    /// Whether a write failed: then it cannot be committed, whatever the caller makes of the fault.
    pub(crate) failed: bool,
    /// Whether that was a failed write to the disk.
    pub(crate) sync_failed: bool,
}

impl<'c> Deref for Tx<'c> {
    type Target = Reader<'c>;

    fn deref(&self) -> &Reader<'c> {
        &self.reader
    }
}

impl<'c> Tx<'c> {
    pub(crate) fn new(
        reader: Reader<'c>,
        now: Timestamp,
        actor: &'c str,
        ids: &'c Mutex<IdSource>,
        head: Option<Head>,
    ) -> Self {
        let head = head.map(|head| head.position);
        Self { reader, now, actor, ids, head, correlation_id: None, outcome: Outcome::default() }
    }
}

impl Tx<'_> {
    /// The instant at which everything in this transaction becomes known; never before that of an earlier transaction.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// From now on every event that has no correlation id of its own carries this one.
    pub fn correlate(&mut self, correlation_id: Option<String>) {
        self.correlation_id = correlation_id;
    }

    /// Who does it.
    pub const fn actor(&self) -> &str {
        self.actor
    }

    /// A fresh id.
    pub fn new_id<K>(&self) -> Id<K> {
        guard(self.ids).next(self.now)
    }

    pub(crate) fn new_event_ids(&self, count: usize) -> Vec<EventId> {
        let mut ids = guard(self.ids);
        (0..count).map(|_| ids.next(self.now)).collect()
    }

    /// A statement with `?` parameters; answers the number of rows that it matched.
    pub fn execute(&mut self, sql: &str, params: &[Value<'_>]) -> Result<usize> {
        self.run(|tx| tx.reader.connection.execute(sql, params))
    }

    /// Inserts rows. The number of statements does not depend on the number of rows. With `Replace` and `Add` no two rows
    /// of one call may have the same key: PostgreSQL refuses that.
    pub fn insert<const N: usize>(
        &mut self,
        table: &str,
        columns: [&str; N],
        rows: &[[Value<'_>; N]],
        on_duplicate: OnDuplicate<'_>,
    ) -> Result<()> {
        if let OnDuplicate::Replace { key } | OnDuplicate::Add { key } = on_duplicate {
            let in_key: Vec<usize> = (0..N).filter(|&column| key.contains(&columns[column])).collect();
            let keys = rows.iter().map(|row| in_key.iter().map(|&column| row[column]).collect());
            debug_assert!(are_distinct(keys, rows.len()), "{table}: a call names a key twice");
        }
        self.run_many(&Write::Insert { table, columns: &columns, on_duplicate }, rows).map(|_| ())
    }

    /// Updates many rows by key: each of `rows` holds the values of `set`, then those of `key`. The number of
    /// statements does not depend on the number of rows, and no two of them may name the same key: which would come last
    /// differs between databases. Answers the number of rows that were found.
    pub fn update_many<const N: usize>(
        &mut self,
        table: &str,
        set: &[&str],
        key: &[&str],
        rows: &[[Value<'_>; N]],
    ) -> Result<usize> {
        debug_assert!(
            are_distinct(rows.iter().map(|row| row[set.len()..].to_vec()), rows.len()),
            "{table}: a call names a key twice"
        );
        self.run_many(&Write::Update { table, set, key }, rows)
    }

    /// Appends events and answers the position of the first; the others follow it without a gap. Publish before writing
    /// rows that name positions, and after every read: on servers the head is locked from here to the commit.
    pub fn publish(&mut self, events: &[NewEvent]) -> Result<i64> {
        event_log::append(self, events)
    }

    /// Appends events that follow from `cause`.
    pub fn publish_from(&mut self, cause: &EventRecord, events: Vec<NewEvent>) -> Result<i64> {
        let events: Vec<NewEvent> = events.into_iter().map(|event| event.caused_by(cause)).collect();
        self.publish(&events)
    }

    fn run_many<'r, R: AsRef<[Value<'r>]>>(&mut self, write: &Write<'_>, rows: &[R]) -> Result<usize> {
        if rows.is_empty() {
            return Ok(0);
        }
        self.run(|tx| tx.reader.connection.write(write, rows))
    }

    fn run(&mut self, write: impl FnOnce(&Self) -> Result<usize, Failure>) -> Result<usize> {
        self.reader.stats.statements.fetch_add(1, Ordering::Relaxed);
        // Some errors make the database roll back by itself; whatever came afterwards would commit row by row.
        if self.reader.connection.has_ended() {
            self.outcome.failed = true;
            return Err(Fault::new(&problems::UNAVAILABLE, "the database has ended the transaction"));
        }
        let matched = write(self).map_err(|failure| {
            self.outcome.failed = true;
            self.outcome.sync_failed |= failure.class == Class::Fatal;
            failure.fault
        })?;
        self.outcome.changed |= matched > 0;
        Ok(matched)
    }
}

/// Whether no two of these keys are equal.
fn are_distinct<'v>(keys: impl Iterator<Item = Vec<Value<'v>>>, count: usize) -> bool {
    keys.collect::<BTreeSet<_>>().len() == count
}
