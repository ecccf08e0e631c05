//! Fresh databases for tests: in memory, or, when `ALPES_TEST_DATABASE` is the URL of a server, one there. The same tests
//! then prove the same promises on every database. It must not be part of the product.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kernel::{Fault, Result};

use crate::connection::Connection;
use crate::db::{Db, DbOptions};
use crate::location::{Location, Place};

static NEXT: AtomicU64 = AtomicU64::new(0);
/// Databases that were made by this process, with the migrations that made their tables: making tables takes a server
/// longer than most tests.
static MADE: Mutex<Vec<(String, Location)>> = Mutex::new(Vec::new());

impl Db {
    /// A fresh database for one test.
    pub fn for_test(options: DbOptions) -> Result<Self> {
        let Ok(url) = std::env::var("ALPES_TEST_DATABASE") else { return Self::in_memory(options) };
        let server = Location::parse(&url, std::path::Path::new("."))?;
        let tables: Vec<String> = options
            .migrations
            .iter()
            .flat_map(|group| group.iter())
            .map(|migration| format!("{} {} {}", migration.number, migration.owner, migration.sql))
            .collect();
        let tables = tables.concat();
        // Held until the database is in use.
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = server.0.connect(true)?;
        for (_, location) in made.iter().filter(|(known, _)| *known == tables) {
            if !is_in_use(&connection, location)? {
                empty(&location.0.connect(true)?, &options)?;
                return Self::open(location, options);
            }
        }
        let location = create(&connection, &url)?;
        made.push((tables, location.clone()));
        Self::open(&location, options)
    }

    /// A fresh database that no other test gets, even while it is not connected to; none in memory.
    pub fn for_test_alone(options: DbOptions) -> Result<Option<Self>> {
        let Ok(url) = std::env::var("ALPES_TEST_DATABASE") else { return Ok(None) };
        let connection = Location::parse(&url, std::path::Path::new("."))?.0.connect(true)?;
        Self::open(&create(&connection, &url)?, options).map(Some)
    }

    /// Bytes as a literal of this database, for tests that tamper with rows.
    pub fn bytes_literal(&self, hexadecimal: &str) -> String {
        match &self.place {
            Some(Place::Postgres(_)) => format!("'\\x{hexadecimal}'"),
            _ => format!("X'{hexadecimal}'"),
        }
    }
}

fn create(connection: &Connection, url: &str) -> Result<Location> {
    let name = format!("alpes_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    connection.batch(&format!("CREATE DATABASE {name}"))?;
    let (head, _) = url.rsplit_once('/').ok_or_else(|| Fault::internal("the URL names no database"))?;
    Location::parse(&format!("{head}/{name}"), std::path::Path::new("."))
}

fn texts(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    connection.query(sql, std::iter::empty(), |row| {
        found.push(row.text(0)?.to_owned());
        Ok(())
    })?;
    Ok(found)
}

fn is_in_use(connection: &Connection, location: &Location) -> Result<bool> {
    let name = location.to_string().rsplit('/').next().unwrap_or_default().to_owned();
    let sql = match location.0 {
        Place::Postgres(_) => "SELECT CAST(datname AS TEXT) FROM pg_stat_activity WHERE datname IS NOT NULL",
        _ => "SELECT db FROM information_schema.processlist WHERE db IS NOT NULL",
    };
    Ok(texts(connection, sql)?.contains(&name))
}

/// Empties every table, and puts the rows back with which migrations begin.
fn empty(connection: &Connection, options: &DbOptions) -> Result<()> {
    let sql = match connection {
        Connection::Postgres(_) => {
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration'"
        }
        _ => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name <> 'migration'"
        }
    };
    let tables = texts(connection, sql)?;
    connection.batch("BEGIN")?;
    for table in tables {
        connection.batch(&format!("DELETE FROM {table}"))?;
    }
    let migrations = options.migrations.iter().flat_map(|group| group.iter());
    for statement in migrations.flat_map(|migration| connection.dialect().statements(migration.sql)) {
        if statement.starts_with("INSERT") {
            connection.batch(&statement)?;
        }
    }
    connection.commit()?;
    Ok(())
}
