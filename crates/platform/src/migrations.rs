//! Migrations: every crate brings its own, under one numbering, written with type tokens for every database
//! (`{id} {int} {key} {text} {bytes} {clustered}`). They only go forward.

use kernel::{Fault, Result, Timestamp};
use rusqlite::Connection;

use crate::db::Stats;
use crate::dialect;
use crate::sql::Reader;

/// One step of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its place in the one numbering of all crates.
    pub number: i64,
    /// The crate that brings it.
    pub owner: &'static str,
    /// Statements with type tokens.
    pub sql: &'static str,
}

impl Migration {
    /// A step of the schema.
    pub const fn new(number: i64, owner: &'static str, sql: &'static str) -> Self {
        Self { number, owner, sql }
    }
}

pub(crate) fn run(connection: &Connection, stats: &Stats, groups: &[&[Migration]], now: Timestamp) -> Result<()> {
    let driver = |error: rusqlite::Error| dialect::fault(&error);
    let mut all: Vec<&Migration> = groups.iter().flat_map(|group| group.iter()).collect();
    all.sort_by_key(|migration| migration.number);
    if let Some(pair) = all.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(Fault::internal(format!(
            "migration {} of {} and {}",
            pair[0].number, pair[0].owner, pair[1].owner
        )));
    }
    connection
        .execute_batch(&dialect::ddl(
            "CREATE TABLE IF NOT EXISTS migration (number {int} NOT NULL PRIMARY KEY, owner {key} NOT NULL, applied_at {int} NOT NULL)",
        ))
        .map_err(driver)?;
    let reader = Reader { connection, stats };
    let done = reader.query("SELECT number FROM migration ORDER BY number", &[], |row| row.int(0))?;
    if let Some(unknown) = done.iter().find(|number| all.iter().all(|migration| migration.number != **number)) {
        let detail =
            format!("the database has migration {unknown}, which this version of alpes does not know: use a newer one");
        return Err(Fault::new(&kernel::problems::UNAVAILABLE, detail));
    }
    for migration in all.into_iter().filter(|migration| !done.contains(&migration.number)) {
        connection.execute_batch("BEGIN IMMEDIATE").map_err(driver)?;
        let applied = connection.execute_batch(&dialect::ddl(migration.sql)).and_then(|()| {
            let row = (migration.number, migration.owner, now.as_micros());
            connection.execute("INSERT INTO migration (number, owner, applied_at) VALUES (?, ?, ?)", row)
        });
        if let Err(error) = applied {
            // It may have been rolled back already, and the first error is the one that helps.
            let _ = connection.execute_batch("ROLLBACK");
            return Err(Fault::internal(format!("migration {} of {}: {error}", migration.number, migration.owner)));
        }
        connection.execute_batch("COMMIT").map_err(driver)?;
    }
    Ok(())
}
