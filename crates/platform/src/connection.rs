//! Connections: one enum over the three drivers, and what a statement of the façade becomes on each. Nothing outside of
//! this module names a driver. It must not know who waits for whom; that is `db`.

pub(crate) mod mysql;
pub(crate) mod postgres;
pub(crate) mod sqlite;

use std::time::Duration;

use kernel::{Fault, Problem, Result, Timestamp, problems};

use crate::sql::{OnDuplicate, Row, Value};

pub(crate) use self::mysql::MysqlConnection;
pub(crate) use self::postgres::PostgresConnection;
pub(crate) use self::sqlite::SqliteConnection;

/// How long a connection to a server may take, and what was sent may stay unconfirmed by the other end: past that the wire
/// counts as cut. A server that stands still confirms all the same.
pub(crate) const WIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// What is in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cell<'r> {
    Null,
    Int(i64),
    Text(&'r str),
    Bytes(&'r [u8]),
}

/// What became of a statement that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// It is wrong, or a limit was met; again would be the same.
    Ordinary,
    /// The transaction was ended in favour of another one, or the connection was lost: nothing has happened, and the
    /// same work may be tried again as a whole.
    Interrupted,
    /// The outcome of a sync is unknown: nothing may be written any more.
    Fatal,
}

/// A driver's error, told apart.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) class: Class,
    pub(crate) fault: Fault,
}

impl Failure {
    pub(crate) const fn new(class: Class, fault: Fault) -> Self {
        Self { class, fault }
    }

    fn lost(error: impl std::fmt::Display) -> Self {
        let fault = Fault::new(&problems::UNAVAILABLE, "the connection to the database was lost").caused_by(error);
        Self { class: Class::Interrupted, fault }
    }

    fn ordinary(error: impl std::fmt::Display) -> Self {
        Self { class: Class::Ordinary, fault: Fault::internal(error) }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        failure.fault
    }
}

/// A set-based write: on SQLite a prepared statement run once per row (the fastest there), on a server one statement for
/// all rows.
pub(crate) enum Write<'a> {
    Insert { table: &'a str, columns: &'a [&'a str], on_duplicate: OnDuplicate<'a> },
    Update { table: &'a str, set: &'a [&'a str], key: &'a [&'a str] },
}

/// The locked head of the log, as a transaction on a server found it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) position: i64,
    pub(crate) known_at: Timestamp,
}

/// A connection to the database.
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(Box<PostgresConnection>),
    Mysql(Box<MysqlConnection>),
}

impl Connection {
    /// Runs a SELECT and hands out its rows, in order.
    pub(crate) fn query<'v>(
        &self,
        sql: &str,
        params: impl Iterator<Item = &'v Value<'v>>,
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(connection) => connection.query(sql, params, each),
            Self::Postgres(connection) => connection.query(sql, params, each),
            Self::Mysql(connection) => connection.query(sql, params, each),
        }
    }

    /// The SELECT `sql` with its list `?*` for `keys` of `N` columns each, at most 512.
    pub(crate) fn query_in<const N: usize>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        keys: &[[Value<'_>; N]],
        each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        match self {
            Self::Sqlite(connection) => {
                let (sql, list) = crate::dialect::padded_list(sql, keys, true);
                connection.query(&sql, params.iter().chain(list), each)
            }
            Self::Postgres(connection) => connection.query_in(sql, params, keys, each),
            Self::Mysql(connection) => {
                let (sql, list) = crate::dialect::padded_list(sql, keys, false);
                connection.query(&sql, params.iter().chain(list), each)
            }
        }
    }

    /// Runs one statement; answers the number of rows that it matched.
    pub(crate) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, Failure> {
        match self {
            Self::Sqlite(connection) => connection.execute(sql, &[params]),
            Self::Postgres(connection) => connection.execute(sql, params),
            Self::Mysql(connection) => connection.execute(sql, params),
        }
    }

    /// Writes rows; answers how many were matched or inserted. Rows must not be empty.
    pub(crate) fn write<'r, R: AsRef<[Value<'r>]>>(&self, write: &Write<'_>, rows: &[R]) -> Result<usize, Failure> {
        match self {
            Self::Sqlite(connection) => connection.write(write, rows),
            Self::Postgres(connection) => connection.write(write, rows),
            Self::Mysql(connection) => connection.write(write, rows),
        }
    }

    /// Begins a write transaction. On a server it takes the head of the log first: whoever has it is alone, in all
    /// processes, until the commit, exactly as the one writer of SQLite is (ADR 0011).
    pub(crate) fn begin(&self) -> Result<Option<Head>, Failure> {
        match self {
            Self::Sqlite(connection) => connection.batch("BEGIN IMMEDIATE").map(|()| None),
            Self::Postgres(connection) => connection.begin().map(Some),
            Self::Mysql(connection) => connection.begin().map(Some),
        }
    }

    /// Begins a read-only transaction over one snapshot.
    pub(crate) fn begin_read(&self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(connection) => connection.batch("BEGIN"),
            Self::Postgres(connection) => connection.begin_read(),
            Self::Mysql(connection) => connection.begin_read(),
        }
    }

    /// Commits; answers when that is durable.
    pub(crate) fn commit(&self) -> Result<(), Failure> {
        match self {
            Self::Sqlite(connection) => connection.batch("COMMIT"),
            Self::Postgres(connection) => connection.commit(),
            Self::Mysql(connection) => connection.commit(),
        }
    }

    /// Ends a transaction without effect, if there is one.
    pub(crate) fn rollback(&self) {
        match self {
            Self::Sqlite(connection) => connection.rollback(),
            Self::Postgres(connection) => connection.rollback(),
            Self::Mysql(connection) => connection.rollback(),
        }
    }

    /// Whether the open transaction has already been ended by the database.
    pub(crate) fn has_ended(&self) -> bool {
        match self {
            Self::Sqlite(connection) => connection.has_ended(),
            Self::Postgres(connection) => connection.failed().is_some(),
            Self::Mysql(connection) => connection.failed().is_some(),
        }
    }

    /// Whether the open transaction was interrupted, so that the same work may be tried again.
    pub(crate) fn was_interrupted(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Postgres(connection) => connection.failed() == Some(Class::Interrupted),
            Self::Mysql(connection) => connection.failed() == Some(Class::Interrupted),
        }
    }

    /// Whether a server is behind it.
    pub(crate) const fn is_server(&self) -> bool {
        !matches!(self, Self::Sqlite(_))
    }

    /// Statements without parameters that change the schema.
    pub(crate) fn batch(&self, sql: &str) -> Result<(), Failure> {
        match self {
            Self::Sqlite(connection) => connection.batch(sql),
            Self::Postgres(connection) => connection.batch(sql),
            Self::Mysql(connection) => connection.batch(sql),
        }
    }
}

const DISK_FULL: Problem = Problem::new(
    kernel::Kind::Unavailable,
    "storage_full",
    "The disk under the database is full.",
    "Free space on the database's disk; reads go on meanwhile and nothing was changed.",
);
/// The settings of a database under which a promise could not be kept.
pub const REFUSED: Problem = Problem::new(
    kernel::Kind::Unavailable,
    "database_refused",
    "The database is not set up so that Alpes can keep its promises on it.",
    "The detail names the setting and the line to change.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&DISK_FULL, &REFUSED];

fn disk_full(error: impl std::fmt::Display) -> Fault {
    Fault::new(&DISK_FULL, "the disk under the database is full").caused_by(error)
}
