//! Change data capture: the committed events of the log in the order of their commits, as the database's own log of
//! changes tells them, within a millisecond of the commit and without asking the table. PostgreSQL is read by logical
//! replication, MariaDB by its binary log (ADR 0012). It must not know what an event means, nor who receives it.
//!
//! A relay uses it like this: `preflight`; `setup`, whose token it keeps unless it has one; `Stream::open`; then `next`,
//! hand the events to the sink, `acknowledge` what the sink has made durable, keep `resume_token`. When `must_catch_up`
//! says so about a fault, it reads the table as far as it goes and opens the stream again behind that.

mod connect;
mod mariadb;
mod postgres;
mod sequence;

use std::time::Duration;

use ::kernel::{EventRecord, Fault, Kind, Problem, Result};
use platform::Location;

/// The table that is read.
const TABLE: &str = "outbox_event";
/// The columns of an event that are read, by name: the table may have them in any order, and further ones.
const COLUMNS: [&str; 10] = [
    "position",
    "id",
    "aggregatetype",
    "aggregateid",
    "type",
    "payload",
    "occurred_at",
    "actor",
    "causationid",
    "correlationid",
];
/// The publication of that table on PostgreSQL.
const PUBLICATION: &str = "alpes_outbox";

const EVENTS_MISSING: Problem = Problem::new(
    Kind::Unavailable,
    "stream_misses_events",
    "The database's log of changes does not reach back to the last event that was relayed.",
    "Nothing to do: the relay reads the table as far as it goes and comes back to the stream.",
);
const PLACE_LOST: Problem = Problem::new(
    Kind::Unavailable,
    "stream_place_lost",
    "The database's log of changes cannot be read on from where the relay stands: it is not kept, or not readable.",
    "The relay goes on by reading the table and sets its place up anew; keep the log longer, or undo what the detail says.",
);

/// This crate's entries of the catalogue of problems.
pub const PROBLEMS: &[&Problem] = &[&EVENTS_MISSING, &PLACE_LOST];

/// Whether after this fault the relay must read the table as far as it goes before it opens the stream again.
pub fn must_catch_up(fault: &Fault) -> bool {
    fault.problem() == &EVENTS_MISSING || must_set_up(fault)
}

/// Whether after this fault the place in the log of changes is gone: `remove`, `setup` again, then catch up.
pub fn must_set_up(fault: &Fault) -> bool {
    fault.problem() == &PLACE_LOST
}

/// How far a stream is behind, and what that costs the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lag {
    /// The log of changes behind the last acknowledged place; PostgreSQL keeps it on disk for this reader.
    pub behind_bytes: u64,
    /// How much the database keeps before it gives the reader up; none where no such limit exists.
    pub limit_bytes: Option<u64>,
    /// The database's own word: `reserved`, `extended`, `unreserved`, `lost` on PostgreSQL, `kept` on MariaDB.
    pub status: String,
    /// Whether a reader is connected.
    pub is_active: bool,
}

/// A place that the database keeps in its log of changes, for whomever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name on PostgreSQL; `binlog` on MariaDB, which keeps no places but knows who reads.
    pub name: String,
    /// The database's own word: `reserved`, `extended`, `unreserved`, `lost` on PostgreSQL; what the reader's session does
    /// on MariaDB.
    pub status: String,
    /// Whether a reader is connected.
    pub is_active: bool,
    /// The log of changes that is kept for it; none where the database does not say so.
    pub behind_bytes: Option<u64>,
    /// How much is kept before the reader is given up; none where no such limit exists.
    pub limit_bytes: Option<u64>,
}

/// Whether the database keeps the places of readers, and `slots` tells how far each is behind; otherwise only a stream knows
/// its own.
pub fn keeps_places(location: &Location) -> bool {
    location.endpoint().is_some_and(|endpoint| endpoint.is_postgres)
}

/// The places in the log of changes of this database, other people's too: each holds it back. Empty where there is no such
/// log.
pub fn slots(location: &Location) -> Result<Vec<Slot>> {
    match location.endpoint() {
        None => Ok(Vec::new()),
        Some(endpoint) if endpoint.is_postgres => postgres::slots(&endpoint),
        Some(endpoint) => mariadb::slots(&endpoint),
    }
}

/// Refuses settings under which the stream could not keep its promises, with the line to change. Fault:
/// `database_refused`.
pub fn preflight(location: &Location, name: &str) -> Result<()> {
    let endpoint = connect::endpoint(location, name)?;
    if endpoint.is_postgres { postgres::preflight(&endpoint, name) } else { mariadb::preflight(&endpoint) }
}

/// Makes what the database needs for a stream of this name, unless it is there: publication and slot on PostgreSQL. The
/// answer is the place from which a stream must resume that has no other yet; what was committed before is in the table.
pub fn setup(location: &Location, name: &str) -> Result<String> {
    let endpoint = connect::endpoint(location, name)?;
    if endpoint.is_postgres { postgres::setup(&endpoint, name) } else { mariadb::current_place(&endpoint) }
}

/// Removes what `setup` made; a slot that nobody reads would hold back the log of changes.
pub fn remove(location: &Location, name: &str) -> Result<()> {
    let endpoint = connect::endpoint(location, name)?;
    if endpoint.is_postgres { postgres::remove(&endpoint, name) } else { Ok(()) }
}

/// An open stream of events. Dropping it gives the place to another reader.
pub struct Stream(Source);

enum Source {
    Postgres(Box<postgres::Stream>),
    Mariadb(Box<mariadb::Stream>),
}

impl Stream {
    /// Begins to read behind the place of `resume`, a `resume_token` or what `setup` answered; PostgreSQL keeps the place
    /// itself. Events at or below position `after` are skipped. Faults: see `must_catch_up`; `unavailable` when another
    /// reader has the slot.
    pub fn open(location: &Location, name: &str, after: i64, resume: Option<&str>) -> Result<Self> {
        let endpoint = connect::endpoint(location, name)?;
        Ok(Self(if endpoint.is_postgres {
            Source::Postgres(Box::new(postgres::Stream::open(endpoint, name, after)?))
        } else {
            Source::Mariadb(Box::new(mariadb::Stream::open(endpoint, name, after, resume)?))
        }))
    }

    /// The next events, as far as they have arrived, in order; none after `at_most`. Whole transactions, unless one is
    /// larger than 4,096 events or 4 MiB: that comes in pieces, which is safe because only committed work is told. After
    /// a fault the stream must be opened again.
    pub fn next(&mut self, at_most: Duration) -> Result<Vec<EventRecord>> {
        match &mut self.0 {
            Source::Postgres(stream) => stream.next(at_most),
            Source::Mariadb(stream) => stream.next(at_most),
        }
    }

    /// The receiver has made all events up to this position durable: the database may forget them.
    pub fn acknowledge(&mut self, position: i64) -> Result<()> {
        match &mut self.0 {
            Source::Postgres(stream) => stream.acknowledge(position),
            Source::Mariadb(stream) => {
                stream.acknowledge(position);
                Ok(())
            }
        }
    }

    /// The place behind the last transaction that was acknowledged as a whole.
    pub fn resume_token(&self) -> String {
        match &self.0 {
            Source::Postgres(stream) => stream.resume_token(),
            Source::Mariadb(stream) => stream.resume_token(),
        }
    }

    /// How far it is behind.
    pub fn lag(&self) -> Result<Lag> {
        match &self.0 {
            Source::Postgres(stream) => stream.lag(),
            Source::Mariadb(stream) => stream.lag(),
        }
    }
}
