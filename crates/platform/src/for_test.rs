//! Fresh databases for tests: in memory, or, when `ALPES_TEST_DATABASE` is the URL of a server, one of their own there.
//! The same tests then prove the same promises on every database. It must not be part of the product.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kernel::{Fault, Result};

use crate::connection::Connection;
use crate::db::{Db, DbOptions, Stats};
use crate::location::{Location, Place};
use crate::migrations;

static NEXT: AtomicU64 = AtomicU64::new(0);
/// The sets of migrations for which there is a database to copy, by their owners' names.
static TEMPLATES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

impl Db {
    /// A fresh database for one test.
    pub fn for_test(options: DbOptions) -> Result<Self> {
        let Ok(url) = std::env::var("ALPES_TEST_DATABASE") else { return Self::in_memory(options) };
        Self::open(&fresh(&url, &options)?, options)
    }

    /// Bytes as a literal of this database, for tests that tamper with rows.
    pub fn bytes_literal(&self, hexadecimal: &str) -> String {
        match &self.place {
            Some(Place::Postgres(_)) => format!("'\\x{hexadecimal}'"),
            _ => format!("X'{hexadecimal}'"),
        }
    }
}

/// A database of its own on the server of `url`.
fn fresh(url: &str, options: &DbOptions) -> Result<Location> {
    let server = Location::parse(url, std::path::Path::new("."))?.0;
    let connection = server.connect(true)?;
    let name = new_name();
    if let Place::Postgres(config) = server {
        let template = template(&connection, &config, options)?;
        connection.batch(&format!("CREATE DATABASE {name} TEMPLATE {template}"))?;
        return Ok(Location(named(&config, &name)));
    }
    connection.batch(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"))?;
    let (head, _) = url.rsplit_once('/').ok_or_else(|| Fault::internal("the URL names no database"))?;
    Location::parse(&format!("{head}/{name}"), std::path::Path::new("."))
}

fn new_name() -> String {
    format!("alpes_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

fn named(config: &postgres::Config, name: &str) -> Place {
    let mut config = config.clone();
    config.dbname(name);
    Place::Postgres(Box::new(config))
}

/// A database with these tables, made once per process: PostgreSQL copies it faster than it runs migrations.
fn template(connection: &Connection, config: &postgres::Config, options: &DbOptions) -> Result<String> {
    let owners: Vec<String> = options
        .migrations
        .iter()
        .flat_map(|group| group.iter())
        .map(|migration| format!("{}-{}-{}", migration.number, migration.owner, migration.sql.len()))
        .collect();
    let owners = owners.join(" ");
    let mut templates = TEMPLATES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, name)) = templates.iter().find(|(known, _)| *known == owners) {
        return Ok(name.clone());
    }
    let name = new_name();
    connection.batch(&format!("CREATE DATABASE {name}"))?;
    let fresh = named(config, &name).connect(true)?;
    migrations::run(&fresh, &Stats::default(), &options.migrations, options.clock.now())?;
    drop(fresh);
    templates.push((owners, name.clone()));
    Ok(name)
}
