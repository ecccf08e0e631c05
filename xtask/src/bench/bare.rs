//! The limit: the rows that the intake wrote, written again by a loop that does nothing else.

use super::intake::{in_turn, record};
use super::{Context, Readings};
use crate::load::server::Start;
use anyhow::{Context as _, Result, ensure};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Conversions per transaction of the bare loop, as many as the intake takes at most.
const PER_TRANSACTION: usize = 4_096;
/// Pages in the write-ahead log after which SQLite moves them to the database: its default.
const AUTO_CHECKPOINT: i64 = 1_000;
/// Rows of one statement: measured to be the fastest, before 8 and before as many as a statement can have.
const PER_STATEMENT: usize = 64;

/// The intake by bulk calls against the bare loop, on the same rows.
pub(super) fn ratio(context: &Context) -> Result<Readings> {
    let count = if context.quick { 10_000 } else { 100_000 };
    let recorded = context.data.join("recorded");
    if context.repetition == 0 {
        intake(context, "recorded", count)?;
    }
    let rows = Recording::load(&recorded.join("alpes.db"), count)?;
    let bare = context.data.join("bare.db");
    let ((intake, raw), loops) = in_turn(
        context,
        || intake(context, "intake", count),
        || Ok([rows.write(&bare, AUTO_CHECKPOINT)?, rows.write(&bare, 0)?]),
    )?;
    Ok(Readings {
        values: vec![("bare", intake / loops[0]), ("bare-loop", loops[0]), ("bare-log-only", loops[1])],
        raw: json!({"intake_per_second": intake, "bare_per_second": loops, "tables": rows.summary(), "intake": raw}),
    })
}

fn intake(context: &Context, name: &str, count: u64) -> Result<(f64, serde_json::Value)> {
    let (_, running, scene) = context.scene(name, &Start::with(&["--roles", "api"]))?;
    let recorded = record(&scene, "bare", count, false)?;
    running.stop()?;
    Ok(recorded)
}

/// The schema and the rows of a database after an intake.
struct Recording {
    conversions: u64,
    page_size: i64,
    /// `CREATE` statements of all tables and indexes.
    schema: Vec<String>,
    tables: Vec<Table>,
}

/// The rows of one table in their order, as many per conversion as the intake wrote.
struct Table {
    name: String,
    columns: usize,
    rows: Vec<Vec<Value>>,
}

impl Recording {
    fn load(database: &Path, conversions: u64) -> Result<Self> {
        let connection = Connection::open(database)?;
        let page_size = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let schema = "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let schema = strings(&connection, schema)?;
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid";
        let mut tables = Vec::new();
        for name in strings(&connection, names)? {
            let table = Table::load(&connection, name)?;
            // Set-up wrote some rows into many tables; only what grows with the conversions is the intake's.
            if table.rows.len() as u64 >= conversions / 1_000 {
                tables.push(table);
            }
        }
        ensure!(!tables.is_empty(), "{} has no rows", database.display());
        Ok(Self { conversions, page_size, schema, tables })
    }

    /// Writes all rows into a fresh database and returns conversions per second.
    fn write(&self, database: &Path, auto_checkpoint: i64) -> Result<f64> {
        for suffix in ["", "-wal", "-shm"] {
            let path = format!("{}{suffix}", database.display());
            if Path::new(&path).exists() {
                std::fs::remove_file(path)?;
            }
        }
        let mut connection = Connection::open(database)?;
        connection.pragma_update(None, "page_size", self.page_size)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", auto_checkpoint)?;
        for statement in &self.schema {
            connection.execute_batch(statement).with_context(|| statement.clone())?;
        }
        let transactions = usize::try_from(self.conversions)?.div_ceil(PER_TRANSACTION);
        let start = Instant::now();
        for number in 0..transactions {
            let transaction = connection.transaction()?;
            for table in &self.tables {
                let length = table.rows.len();
                let rows = &table.rows[length * number / transactions..length * (number + 1) / transactions];
                table.insert(&transaction, rows)?;
            }
            transaction.commit()?;
        }
        Ok(self.conversions as f64 / start.elapsed().as_secs_f64())
    }

    fn summary(&self) -> serde_json::Value {
        self.tables.iter().map(|table| (table.name.clone(), json!(table.rows.len()))).collect()
    }
}

impl Table {
    fn load(connection: &Connection, name: String) -> Result<Self> {
        let mut statement = connection.prepare(&format!("SELECT * FROM \"{name}\""))?;
        let columns = statement.column_count();
        let values = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
        let rows = statement.query_map([], values)?.collect::<rusqlite::Result<_>>()?;
        Ok(Self { name, columns, rows })
    }

    fn insert(&self, connection: &Connection, rows: &[Vec<Value>]) -> Result<()> {
        for rows in rows.chunks(PER_STATEMENT) {
            let row = format!("({})", vec!["?"; self.columns].join(","));
            let sql = format!("INSERT INTO \"{}\" VALUES {}", self.name, vec![row.as_str(); rows.len()].join(","));
            connection.prepare_cached(&sql)?.execute(params_from_iter(rows.iter().flatten()))?;
        }
        Ok(())
    }
}

fn strings(connection: &Connection, sql: &str) -> Result<Vec<String>> {
    let mut statement = connection.prepare(sql)?;
    let strings = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    Ok(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bare_loop_writes_the_same_rows_and_leaves_out_the_set_up() {
        let directory = std::env::temp_dir().join(format!("alpes-bare-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let recorded = directory.join("recorded.db");
        let connection = Connection::open(&recorded).unwrap();
        connection
            .execute_batch(
                "CREATE TABLE fact (id BLOB PRIMARY KEY, amount BIGINT, note TEXT) WITHOUT ROWID;
                 CREATE UNIQUE INDEX fact_amount ON fact (amount);
                 CREATE TABLE setting (name TEXT);
                 INSERT INTO setting VALUES ('one');
                 WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
                 INSERT INTO fact SELECT CAST(printf('%08d', n) AS BLOB), n, NULL FROM n;",
            )
            .unwrap();
        drop(connection);
        let recording = Recording::load(&recorded, 2_000).unwrap();
        assert_eq!(recording.summary(), json!({"fact": 2_000}));
        let bare = directory.join("bare.db");
        assert!(recording.write(&bare, AUTO_CHECKPOINT).unwrap() > 0.0);
        assert!(recording.write(&bare, 0).unwrap() > 0.0, "a second run starts afresh");
        let copied = Connection::open(&bare).unwrap();
        let sum = |connection: &Connection| -> (i64, i64) {
            let sql = "SELECT COUNT(*), SUM(amount) FROM fact";
            connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
        };
        assert_eq!(sum(&copied), (2_000, 2_001_000));
        drop(copied);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
