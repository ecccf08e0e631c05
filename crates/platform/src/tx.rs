//! A write transaction: one "now", the actor, ids, set-based writes and the publication of events.

use std::fmt::Write as _;
use std::ops::Deref;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use kernel::{EventId, EventRecord, Fault, Id, IdSource, NewEvent, Result, Timestamp, problems};

use crate::db::guard;
use crate::dialect;
use crate::event_log;
use crate::sql::{OnDuplicate, Reader, Value};

/// A write transaction. Everything done through it becomes visible together, or not at all: once a write has failed,
/// nothing can be committed any more.
pub struct Tx<'c> {
    pub(crate) reader: Reader<'c>,
    pub(crate) now: Timestamp,
    pub(crate) actor: &'c str,
    ids: &'c Mutex<IdSource>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) outcome: Outcome,
}

/// What became of a transaction so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outcome {
    /// The last position that it gave out.
    pub(crate) head: Option<i64>,
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
    pub(crate) fn new(reader: Reader<'c>, now: Timestamp, actor: &'c str, ids: &'c Mutex<IdSource>) -> Self {
        Self { reader, now, actor, ids, correlation_id: None, outcome: Outcome::default() }
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
        self.run_each(sql, std::slice::from_ref(&params))
    }

    /// Inserts rows. The number of statements does not depend on the number of rows.
    pub fn insert<const N: usize>(
        &mut self,
        table: &str,
        columns: [&str; N],
        rows: &[[Value<'_>; N]],
        on_duplicate: OnDuplicate<'_>,
    ) -> Result<()> {
        let mut sql = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), vec!["?"; N].join(", "));
        let tail = |sql: &mut String, key: &[&str], expression: &dyn Fn(&str) -> String| {
            let assignments: Vec<String> =
                columns.iter().filter(|column| !key.contains(column)).map(|column| expression(column)).collect();
            let _ = write!(sql, " ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), assignments.join(", "));
        };
        match on_duplicate {
            OnDuplicate::Fail => {}
            OnDuplicate::Ignore => sql.push_str(" ON CONFLICT DO NOTHING"),
            OnDuplicate::Replace { key } => tail(&mut sql, key, &|column| format!("{column} = excluded.{column}")),
            OnDuplicate::Add { key } => {
                tail(&mut sql, key, &|column| format!("{column} = {table}.{column} + excluded.{column}"));
            }
        }
        self.run_each(&sql, rows).map(|_| ())
    }

    /// Updates many rows by key: each of `rows` holds the values of `set`, then those of `key`. The number of
    /// statements does not depend on the number of rows. Answers the number of rows that were found.
    pub fn update_many<const N: usize>(
        &mut self,
        table: &str,
        set: &[&str],
        key: &[&str],
        rows: &[[Value<'_>; N]],
    ) -> Result<usize> {
        let assign = |columns: &[&str], glue: &str| {
            columns.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(glue)
        };
        let sql = format!("UPDATE {table} SET {} WHERE {}", assign(set, ", "), assign(key, " AND "));
        self.run_each(&sql, rows)
    }

    /// Locks the subjects of a decision, sorted, until the end of the transaction. SQLite has one writer, so there is
    /// nothing to do; a server database takes a row lock per key.
    pub fn lock(&mut self, _subject: &str, _keys: &[&[u8]]) -> Result<()> {
        Ok(())
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

    /// One façade statement: on SQLite a prepared statement run once per row (the fastest there), on a server one
    /// statement for all rows.
    fn run_each<'r, R: AsRef<[Value<'r>]>>(&mut self, sql: &str, rows: &[R]) -> Result<usize> {
        if rows.is_empty() {
            return Ok(0);
        }
        self.reader.stats.statements.fetch_add(1, Ordering::Relaxed);
        // Some errors make the database roll back by itself; whatever came afterwards would commit row by row.
        if self.reader.connection.is_autocommit() {
            self.outcome.failed = true;
            return Err(Fault::new(&problems::UNAVAILABLE, "the database has ended the transaction"));
        }
        let matched = self.run_rows(sql, rows).map_err(|error| {
            self.outcome.failed = true;
            self.outcome.sync_failed |= dialect::is_fatal(&error);
            dialect::fault(&error)
        })?;
        self.outcome.changed |= matched > 0;
        Ok(matched)
    }

    fn run_rows<'r, R: AsRef<[Value<'r>]>>(&self, sql: &str, rows: &[R]) -> rusqlite::Result<usize> {
        let mut statement = self.reader.connection.prepare_cached(sql)?;
        let mut matched = 0;
        for row in rows {
            matched += statement.execute(rusqlite::params_from_iter(row.as_ref()))?;
        }
        Ok(matched)
    }
}
