//! SQLite by `rusqlite`: a statement costs a microsecond, so rows are written one by one through a prepared statement.

use std::fmt::Write as _;

use kernel::{Fault, Result, problems};
use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode};

use super::{Cell, Class, Failure, Write, disk_full};
use crate::sql::{OnDuplicate, Row, Value};

impl ToSql for Value<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(Some(value)) => ValueRef::Integer(*value),
            Self::Text(Some(value)) => ValueRef::Text(value.as_bytes()),
            Self::Bytes(Some(value)) => ValueRef::Blob(value),
            Self::Int(None) | Self::Text(None) | Self::Bytes(None) => ValueRef::Null,
        }))
    }
}

/// What a column of a row holds.
pub(crate) fn cell<'r>(row: &'r rusqlite::Row<'_>, column: usize) -> Result<Cell<'r>> {
    let wrong = |error: &dyn std::fmt::Display| Fault::internal(format!("column {column}: {error}"));
    match row.get_ref(column).map_err(|error| wrong(&error))? {
        ValueRef::Null => Ok(Cell::Null),
        ValueRef::Integer(value) => Ok(Cell::Int(value)),
        ValueRef::Text(text) => std::str::from_utf8(text).map(Cell::Text).map_err(|error| wrong(&error)),
        ValueRef::Blob(bytes) => Ok(Cell::Bytes(bytes)),
        ValueRef::Real(_) => Err(wrong(&"a fraction")),
    }
}

/// A connection to a file or to memory.
pub(crate) struct SqliteConnection(pub(crate) Connection);

impl SqliteConnection {
    pub(crate) fn query<'v>(
        &self,
        sql: &str,
        params: impl Iterator<Item = &'v Value<'v>>,
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut statement = self.0.prepare_cached(sql).map_err(|error| fault(&error))?;
        let mut rows = statement.query(rusqlite::params_from_iter(params)).map_err(|error| fault(&error))?;
        while let Some(row) = rows.next().map_err(|error| fault(&error))? {
            each(&Row::Sqlite(row))?;
        }
        Ok(())
    }

    /// Runs a statement once per row; answers how many rows it matched in all.
    pub(crate) fn execute<'r, R: AsRef<[Value<'r>]>>(&self, sql: &str, rows: &[R]) -> Result<usize, Failure> {
        let run = || {
            let mut statement = self.0.prepare_cached(sql)?;
            let mut matched = 0;
            for row in rows {
                matched += statement.execute(rusqlite::params_from_iter(row.as_ref()))?;
            }
            Ok(matched)
        };
        run().map_err(|error: rusqlite::Error| failure(&error))
    }

    pub(crate) fn write<'r, R: AsRef<[Value<'r>]>>(&self, write: &Write<'_>, rows: &[R]) -> Result<usize, Failure> {
        self.execute(&statement(write), rows)
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.0.execute_batch(sql).map_err(|error| failure(&error))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.0.is_autocommit()
    }

    pub(crate) fn rollback(&self) {
        // After some errors the database has rolled back by itself.
        if !self.0.is_autocommit()
            && let Err(error) = self.0.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a transaction could not be rolled back");
        }
    }
}

fn statement(write: &Write<'_>) -> String {
    let assign = |columns: &[&str], glue: &str| {
        columns.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(glue)
    };
    match write {
        Write::Update { table, set, key } => {
            format!("UPDATE {table} SET {} WHERE {}", assign(set, ", "), assign(key, " AND "))
        }
        Write::Insert { table, columns, on_duplicate } => {
            let places = vec!["?"; columns.len()].join(", ");
            let mut sql = format!("INSERT INTO {table} ({}) VALUES ({places})", columns.join(", "));
            on_conflict(&mut sql, table, columns, *on_duplicate);
            sql
        }
    }
}

/// What SQLite and PostgreSQL do with a row whose key is there.
pub(super) fn on_conflict(sql: &mut String, table: &str, columns: &[&str], on_duplicate: OnDuplicate<'_>) {
    let mut tail = |key: &[&str], expression: &dyn Fn(&str) -> String| {
        let assignments: Vec<String> =
            columns.iter().filter(|column| !key.contains(column)).map(|column| expression(column)).collect();
        let _ = write!(sql, " ON CONFLICT ({}) DO UPDATE SET {}", key.join(", "), assignments.join(", "));
    };
    match on_duplicate {
        OnDuplicate::Fail => {}
        OnDuplicate::Ignore => sql.push_str(" ON CONFLICT DO NOTHING"),
        OnDuplicate::Replace { key } => tail(key, &|column| format!("{column} = excluded.{column}")),
        OnDuplicate::Add { key } => tail(key, &|column| format!("{column} = {table}.{column} + excluded.{column}")),
    }
}

/// Whether after this error of a write nothing may be written until a restart: the outcome of a failed sync is unknown.
/// A page that cannot be read, or memory that cannot be had, has written nothing.
fn is_fatal(error: &rusqlite::Error) -> bool {
    use rusqlite::ffi;
    match error.sqlite_error().map(|error| (error.code, error.extended_code)) {
        Some((ErrorCode::SystemIoFailure, extended)) => !matches!(
            extended,
            ffi::SQLITE_IOERR_READ
                | ffi::SQLITE_IOERR_SHORT_READ
                | ffi::SQLITE_IOERR_NOMEM
                | ffi::SQLITE_IOERR_SHMOPEN
                | ffi::SQLITE_IOERR_SHMSIZE
                | ffi::SQLITE_IOERR_SHMMAP
                | ffi::SQLITE_IOERR_SHMLOCK
        ),
        Some((ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase, _)) => true,
        _ => false,
    }
}

/// A driver's error, told apart.
pub(crate) fn failure(error: &rusqlite::Error) -> Failure {
    Failure::new(if is_fatal(error) { Class::Fatal } else { Class::Ordinary }, fault(error))
}

/// A driver's error as a fault.
pub(crate) fn fault(error: &rusqlite::Error) -> Fault {
    use ErrorCode as Code;
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    match code {
        // The index of the write-ahead log could not grow: that is a full disk too.
        Some((Code::DiskFull, _) | (Code::SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => disk_full(error),
        Some((
            Code::SystemIoFailure
            | Code::DatabaseBusy
            | Code::DatabaseLocked
            | Code::CannotOpen
            | Code::ReadOnly
            | Code::DatabaseCorrupt
            | Code::NotADatabase
            | Code::OutOfMemory,
            _,
        )) => Fault::new(&problems::UNAVAILABLE, "the database cannot take the request just now").caused_by(error),
        _ => Fault::internal(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_sync_is_fatal_and_a_full_disk_or_a_failed_read_is_not() {
        use rusqlite::ffi;
        let error = |code: i32| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_WRITE, ffi::SQLITE_IOERR_DIR_FSYNC] {
            assert!(is_fatal(&error(code)), "{code}");
            assert_eq!(fault(&error(code)).code(), "unavailable");
        }
        assert!(is_fatal(&error(ffi::SQLITE_CORRUPT)) && is_fatal(&error(ffi::SQLITE_NOTADB)));
        for (code, problem) in [
            (ffi::SQLITE_FULL, "storage_full"),
            (ffi::SQLITE_IOERR_SHMSIZE, "storage_full"),
            (ffi::SQLITE_IOERR_READ, "unavailable"),
            (ffi::SQLITE_BUSY, "unavailable"),
            (ffi::SQLITE_CANTOPEN, "unavailable"),
            (ffi::SQLITE_CONSTRAINT_UNIQUE, "internal"),
            (ffi::SQLITE_ERROR, "internal"),
        ] {
            assert!(!is_fatal(&error(code)), "{code}");
            assert_eq!(fault(&error(code)).code(), problem, "{code}");
        }
        assert!(!is_fatal(&rusqlite::Error::QueryReturnedNoRows));
    }
}
