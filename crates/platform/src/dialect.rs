//! The few places where databases differ: type names, list parameters, error classes. Only SQLite is connected today;
//! another database adds a variant here and in `sql`, and no context notices.

use kernel::{Fault, Kind, Problem, problems};
use rusqlite::ErrorCode;

/// Replaces the type tokens of a migration.
pub(crate) fn ddl(sql: &str) -> String {
    const TOKENS: &[(&str, &str)] = &[
        ("{int}", "INTEGER"),
        ("{id}", "BLOB"),
        ("{bytes}", "BLOB"),
        ("{key}", "TEXT"),
        ("{text}", "TEXT"),
        ("{clustered}", "WITHOUT ROWID"),
    ];
    TOKENS.iter().fold(sql.to_owned(), |sql, (token, name)| sql.replace(token, name))
}

/// List parameters come in few lengths, so that few statements are prepared: shorter lists repeat their last key.
pub(crate) const LIST_SIZES: [usize; 4] = [1, 8, 64, 512];

/// Replaces `?*` by `size` keys of `arity` columns each.
pub(crate) fn expand_list(sql: &str, size: usize, arity: usize) -> String {
    let list = if arity == 1 {
        vec!["?"; size].join(", ")
    } else {
        let key = format!("({})", vec!["?"; arity].join(", "));
        format!("VALUES {}", vec![key.as_str(); size].join(", "))
    };
    sql.replacen("?*", &list, 1)
}

const DISK_FULL: Problem = Problem::new(
    Kind::Unavailable,
    "storage_full",
    "The disk under the database is full.",
    "Free space on the data directory's disk; reads go on meanwhile and nothing was changed.",
);

/// This crate's entries of the catalogue of problems that stem from the database.
pub(crate) const STORAGE_PROBLEMS: &[&Problem] = &[&DISK_FULL];

/// Whether after this error of a write nothing may be written until a restart: the outcome of a failed sync is unknown.
/// A page that cannot be read, or memory that cannot be had, has written nothing.
pub(crate) fn is_fatal(error: &rusqlite::Error) -> bool {
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

/// A driver's error as a fault.
pub(crate) fn fault(error: &rusqlite::Error) -> Fault {
    use ErrorCode as Code;
    let code = error.sqlite_error().map(|error| (error.code, error.extended_code));
    match code {
        // The index of the write-ahead log could not grow: that is a full disk too.
        Some((Code::DiskFull, _) | (Code::SystemIoFailure, rusqlite::ffi::SQLITE_IOERR_SHMSIZE)) => {
            Fault::new(&DISK_FULL, "the disk under the database is full").caused_by(error)
        }
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
    fn lists_of_one_column_and_of_two() {
        assert_eq!(expand_list("a IN (?*)", 3, 1), "a IN (?, ?, ?)");
        assert_eq!(expand_list("(a, b) IN (?*)", 2, 2), "(a, b) IN (VALUES (?, ?), (?, ?))");
    }

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
