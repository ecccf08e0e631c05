//! Migrations: every crate brings its own, under one numbering, written with type tokens for every database
//! (listed in `dialect`). They only go forward. On MySQL and MariaDB every statement commits by itself, so each step notes how
//! many of its statements are done and goes on from there.

use kernel::{Fault, Result, Timestamp};

use crate::connection::{Connection, Failure};
use crate::db::Stats;
use crate::dialect::Dialect;
use crate::sql::{Reader, Value};

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

/// Brings the tables up to date; on a server alone among the processes that start together.
pub(crate) fn run(connection: &Connection, stats: &Stats, groups: &[&[Migration]], now: Timestamp) -> Result<()> {
    let mut all: Vec<&Migration> = groups.iter().flat_map(|group| group.iter()).collect();
    all.sort_by_key(|migration| migration.number);
    if let Some(pair) = all.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(Fault::internal(format!(
            "migration {} of {} and {}",
            pair[0].number, pair[0].owner, pair[1].owner
        )));
    }
    let alone = Alone::wait(connection)?;
    let dialect = connection.dialect();
    for statement in dialect.statements(
        "CREATE TABLE IF NOT EXISTS migration (number {int} NOT NULL PRIMARY KEY, owner {key} NOT NULL, \
         applied_at {int} NOT NULL, statements {int} NOT NULL)",
    ) {
        connection.batch(&statement)?;
    }
    let reader = Reader { connection, stats };
    let sql = "SELECT number, statements FROM migration ORDER BY number";
    let done = reader.query(sql, &[], |row| Ok((row.int(0)?, row.int(1)?)))?;
    if let Some((unknown, _)) = done.iter().find(|(number, _)| all.iter().all(|migration| migration.number != *number))
    {
        let detail =
            format!("the database has migration {unknown}, which this version of alpes does not know: use a newer one");
        return Err(Fault::new(&kernel::problems::UNAVAILABLE, detail));
    }
    for migration in all {
        let before = done.iter().find(|(number, _)| *number == migration.number).map(|&(_, statements)| statements);
        apply(connection, dialect, migration, before, now).map_err(|failure| {
            Fault::internal(format!("migration {} of {}: {failure}", migration.number, migration.owner))
        })?;
    }
    drop(alone);
    Ok(())
}

fn apply(
    connection: &Connection,
    dialect: Dialect,
    migration: &Migration,
    before: Option<i64>,
    now: Timestamp,
) -> Result<(), Fault> {
    let statements = dialect.statements(migration.sql);
    let count = i64::try_from(statements.len()).map_err(Fault::internal)?;
    let done = before.unwrap_or(0);
    if done >= count && before.is_some() {
        return Ok(());
    }
    let begin = if dialect == Dialect::Sqlite { "BEGIN IMMEDIATE" } else { "BEGIN" };
    let run = || -> Result<(), Failure> {
        connection.batch(begin)?;
        if before.is_none() {
            let row: [Value<'_>; 4] =
                [migration.number.into(), migration.owner.into(), now.into(), Value::Int(Some(0))];
            connection
                .execute("INSERT INTO migration (number, owner, applied_at, statements) VALUES (?, ?, ?, ?)", &row)?;
        }
        for (number, statement) in (1..).zip(&statements).skip_while(|(number, _)| *number <= done) {
            connection.batch(statement)?;
            let row: [Value<'_>; 2] = [Value::Int(Some(number)), migration.number.into()];
            connection.execute("UPDATE migration SET statements = ? WHERE number = ?", &row)?;
        }
        connection.commit()
    };
    run().map_err(|failure| {
        // It may have been rolled back already, and the first error is the one that helps.
        connection.rollback();
        failure.fault.cause().map_or_else(|| failure.fault.clone(), |cause| Fault::internal(cause.to_owned()))
    })
}

/// A lock in the server that makes sure that one process at a time changes the schema.
struct Alone<'c>(&'c Connection);

impl<'c> Alone<'c> {
    fn wait(connection: &'c Connection) -> Result<Self> {
        match connection.dialect() {
            Dialect::Sqlite => {}
            Dialect::Postgres => connection.batch("SELECT pg_advisory_lock(7218539241)")?,
            Dialect::Mariadb | Dialect::Mysql => {
                // It answers 0 when the time is up, not an error.
                let mut is_mine = false;
                let sql = "SELECT CAST(GET_LOCK('alpes_migration', 60) AS BIGINT)";
                connection.query(sql, std::iter::empty(), |row| {
                    is_mine = row.int(0)? == 1;
                    Ok(())
                })?;
                if !is_mine {
                    let detail = "another process has been changing the tables for a minute; try again when it is done";
                    return Err(Fault::new(&kernel::problems::UNAVAILABLE, detail));
                }
            }
        }
        Ok(Self(connection))
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        let released = match self.0.dialect() {
            Dialect::Sqlite => Ok(()),
            Dialect::Postgres => self.0.batch("SELECT pg_advisory_unlock(7218539241)"),
            Dialect::Mariadb | Dialect::Mysql => self.0.batch("SELECT RELEASE_LOCK('alpes_migration')"),
        };
        if let Err(failure) = released {
            // It goes with the session in any case.
            tracing::warn!(fault = %failure.fault, "the lock on the schema was not released");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Migration =
        Migration::new(1, "one", "CREATE TABLE a (id {int} NOT NULL PRIMARY KEY, doc {text}) {clustered};");
    const SECOND: Migration =
        Migration::new(2, "two", "CREATE TABLE b (id {id} NOT NULL);CREATE INDEX b_id ON b (id);");
    const BROKEN: Migration = Migration::new(3, "three", "CREATE TABLE c (id {int});CREATE TABLE a (id {int});");

    fn in_memory() -> Connection {
        Connection::Sqlite(crate::connection::SqliteConnection(rusqlite::Connection::open_in_memory().unwrap()))
    }

    fn migrate(connection: &Connection, groups: &[&[Migration]]) -> Result<()> {
        run(connection, &Stats::default(), groups, Timestamp::from_micros(1))
    }

    fn tables(connection: &Connection) -> Vec<String> {
        let mut names = Vec::new();
        let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let each = |row: &crate::Row<'_>| row.text(0).map(|name| names.push(name.to_owned()));
        connection.query(sql, std::iter::empty(), each).unwrap();
        names
    }

    #[test]
    fn each_runs_once_in_the_order_of_numbers() {
        let connection = in_memory();
        migrate(&connection, &[&[SECOND], &[FIRST]]).unwrap();
        migrate(&connection, &[&[SECOND], &[FIRST]]).unwrap();
        assert_eq!(tables(&connection), ["a", "b", "migration"]);
        let mut done = Vec::new();
        let each = |row: &crate::Row<'_>| {
            done.push((row.int(0)?, row.int(1)?));
            Ok(())
        };
        let sql = "SELECT number, statements FROM migration ORDER BY number";
        connection.query(sql, std::iter::empty(), each).unwrap();
        assert_eq!(done, [(1, 1), (2, 2)]);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let connection = in_memory();
        migrate(&connection, &[&[FIRST, SECOND]]).unwrap();
        let fault = migrate(&connection, &[&[FIRST]]).unwrap_err();
        assert_eq!(fault.code(), "unavailable");
        assert!(fault.detail().contains("migration 2") && fault.detail().contains("newer"), "{fault}");
    }

    #[test]
    fn a_failing_one_leaves_nothing_and_keeps_those_before() {
        let connection = in_memory();
        let fault = migrate(&connection, &[&[FIRST, BROKEN]]).unwrap_err();
        assert!(fault.cause().unwrap_or_default().contains("migration 3 of three"), "{fault}");
        assert_eq!(tables(&connection), ["a", "migration"]);
        assert!(connection.has_ended());
        migrate(&connection, &[&[FIRST, SECOND]]).unwrap();
        assert_eq!(tables(&connection), ["a", "b", "migration"]);
    }

    #[test]
    fn two_crates_cannot_take_one_number() {
        let connection = in_memory();
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
