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

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration =
        Migration::new(1, "one", "CREATE TABLE a (id {int} NOT NULL PRIMARY KEY, doc {text}) {clustered};");
    const SECOND: Migration =
        Migration::new(2, "two", "CREATE TABLE b (id {id} NOT NULL);CREATE INDEX b_id ON b (id);");
    const BROKEN: Migration = Migration::new(3, "three", "CREATE TABLE c (id {int});CREATE TABLE a (id {int});");

    fn migrate(connection: &Connection, groups: &[&[Migration]]) -> Result<()> {
        run(connection, &Stats::default(), groups, Timestamp::from_micros(1))
    }

    fn tables(connection: &Connection) -> Vec<String> {
        let mut statement =
            connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect()
    }

    #[test]
    fn each_runs_once_in_the_order_of_numbers() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, &[&[SECOND], &[FIRST]]).unwrap();
        migrate(&connection, &[&[SECOND], &[FIRST]]).unwrap();
        assert_eq!(tables(&connection), ["a", "b", "migration"]);
        let done: i64 = connection.query_row("SELECT COUNT(*) FROM migration", [], |row| row.get(0)).unwrap();
        assert_eq!(done, 2);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let connection = Connection::open_in_memory().unwrap();
        migrate(&connection, &[&[FIRST, SECOND]]).unwrap();
        let fault = migrate(&connection, &[&[FIRST]]).unwrap_err();
        assert_eq!(fault.code(), "unavailable");
        assert!(fault.detail().contains("migration 2") && fault.detail().contains("newer"), "{fault}");
    }

    #[test]
    fn a_failing_one_leaves_nothing_and_keeps_those_before() {
        let connection = Connection::open_in_memory().unwrap();
        let fault = migrate(&connection, &[&[FIRST, BROKEN]]).unwrap_err();
        assert!(fault.cause().unwrap_or_default().contains("migration 3 of three"), "{fault}");
        assert_eq!(tables(&connection), ["a", "migration"]);
        assert!(connection.is_autocommit());
        migrate(&connection, &[&[FIRST, SECOND]]).unwrap();
        assert_eq!(tables(&connection), ["a", "b", "migration"]);
    }

    #[test]
    fn two_crates_cannot_take_one_number() {
        let connection = Connection::open_in_memory().unwrap();
        let other = Migration::new(1, "other", "CREATE TABLE z (id {int});");
        assert!(
            migrate(&connection, &[&[FIRST], &[other]])
                .unwrap_err()
                .cause()
                .unwrap_or_default()
                .contains("one and other")
        );
    }
}
