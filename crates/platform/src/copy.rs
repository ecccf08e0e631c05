//! Copying a whole database into another one, of whatever kind: every table that migrations make, row by row, in one
//! transaction of the target. It must not know what the rows mean.

use std::sync::atomic::Ordering;

use kernel::{Fault, Kind, Problem, Result};

use crate::connection::{Cell, Connection, Write};
use crate::db::{Db, Lane};
use crate::migrations::Migration;
use crate::sql::{OnDuplicate, Reader, Row, Value};
use crate::tx::Tx;

const NOT_EMPTY: Problem = Problem::new(
    Kind::Conflict,
    "target_not_empty",
    "The database that is to be copied into has rows.",
    "Name an empty database; nothing was copied.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&NOT_EMPTY];

/// Rows that are read and written at once.
const PAGE: i64 = 2_000;

/// A table as its migration declares it.
#[derive(Debug, PartialEq, Eq)]
struct Table {
    name: String,
    columns: Vec<(String, Holds)>,
    key: Vec<String>,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Int,
    Text,
    Bytes,
}

/// How many rows of which table were copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The table.
    pub table: String,
    /// Its rows.
    pub rows: i64,
}

/// Copies every table of `migrations` from one database into another, whose tables are there and empty. `progress` hears
/// of each table. Nothing is in the target unless all of it is. Faults: `target_not_empty`, those of both databases.
pub fn copy(
    from: &Db,
    into: &Db,
    migrations: &[&[Migration]],
    mut progress: impl FnMut(&Copied),
) -> Result<Vec<Copied>> {
    let tables: Vec<Table> = migrations.iter().flat_map(|group| group.iter()).flat_map(|one| tables(one.sql)).collect();
    if into.read(|reader| rows(reader, "outbox_event"))? > 0 {
        return Err(Fault::new(&NOT_EMPTY, "the target has events"));
    }
    from.read(|reader| {
        into.write("copy", Lane::Front, "system", |tx| {
            let mut copied = Vec::new();
            for table in &tables {
                // The rows with which migrations begin.
                tx.execute(&format!("DELETE FROM {}", table.name), &[])?;
                let rows = copy_table(reader, tx, table)?;
                copied.push(Copied { table: table.name.clone(), rows });
                copied.last().into_iter().for_each(&mut progress);
            }
            Ok(copied)
        })
    })
}

fn rows(reader: &Reader<'_>, table: &str) -> Result<i64> {
    let sql = format!("SELECT CAST(COUNT(*) AS BIGINT) FROM {table}");
    Ok(reader.query_one(&sql, &[], |row| row.int(0))?.unwrap_or(0))
}

/// A value that outlives its row.
#[derive(Debug, Clone)]
enum Owned {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

impl Owned {
    fn of(row: &Row<'_>, column: usize, kind: Holds) -> Result<Self> {
        let wrong = |cell: Cell<'_>| Fault::internal(format!("column {column} should be {kind:?} and is {cell:?}"));
        match (kind, row.cell(column)?) {
            (Holds::Int, Cell::Null) => Ok(Self::Int(None)),
            (Holds::Text, Cell::Null) => Ok(Self::Text(None)),
            (Holds::Bytes, Cell::Null) => Ok(Self::Bytes(None)),
            (Holds::Int, Cell::Int(value)) => Ok(Self::Int(Some(value))),
            (Holds::Text, Cell::Text(text)) => Ok(Self::Text(Some(text.to_owned()))),
            (Holds::Bytes, Cell::Bytes(bytes)) => Ok(Self::Bytes(Some(bytes.to_vec()))),
            (_, cell) => Err(wrong(cell)),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Self::Int(value) => Value::Int(*value),
            Self::Text(text) => Value::Text(text.as_deref()),
            Self::Bytes(bytes) => Value::Bytes(bytes.as_deref()),
        }
    }
}

fn copy_table(reader: &Reader<'_>, tx: &mut Tx<'_>, table: &Table) -> Result<i64> {
    let names: Vec<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
    let key = table.key.join(", ");
    let at: Vec<usize> = table.key.iter().filter_map(|key| names.iter().position(|name| name == key)).collect();
    let places = vec!["?"; at.len()].join(", ");
    let mut after: Vec<Owned> = Vec::new();
    let mut copied = 0;
    loop {
        let beyond = if after.is_empty() { String::new() } else { format!(" WHERE ({key}) > ({places})") };
        let sql = format!("SELECT {} FROM {}{beyond} ORDER BY {key} LIMIT {PAGE}", names.join(", "), table.name);
        let params: Vec<Value<'_>> = after.iter().map(Owned::value).collect();
        let page = reader.query(&sql, &params, |row| {
            let kinds = table.columns.iter().enumerate();
            kinds.map(|(column, (_, kind))| Owned::of(row, column, *kind)).collect::<Result<Vec<Owned>>>()
        })?;
        let Some(last) = page.last() else { return Ok(copied) };
        after = at.iter().map(|&column| last[column].clone()).collect();
        let rows: Vec<Vec<Value<'_>>> = page.iter().map(|row| row.iter().map(Owned::value).collect()).collect();
        let write = Write::Insert { table: &table.name, columns: &names, on_duplicate: OnDuplicate::Fail };
        tx.write_rows(&write, &rows)?;
        copied += i64::try_from(rows.len()).unwrap_or(0);
    }
}

/// The tables that a migration makes. Ours are written one column a line, `name {token} …`, with the primary key beside its
/// column or in a line of its own.
fn tables(sql: &str) -> Vec<Table> {
    let code: Vec<&str> = sql.lines().map(|line| line.split_once("--").map_or(line, |(code, _)| code)).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for statement in code.split(';') {
        let Some(rest) = statement.trim().strip_prefix("CREATE TABLE ") else { continue };
        let Some((name, body)) = rest.split_once('(') else { continue };
        let mut table = Table { name: name.trim().to_owned(), columns: Vec::new(), key: Vec::new() };
        let mut rest = body;
        while let Some((before, after)) = rest.split_once('{') {
            let column = before.rsplit([',', '(', '\n', ' ']).find(|word| !word.is_empty()).unwrap_or_default();
            let Some((token, after)) = after.split_once('}') else { break };
            let kind = match token {
                "int" => Some(Holds::Int),
                "id" | "bytes" => Some(Holds::Bytes),
                "word" | "key" | "long_key" | "text" => Some(Holds::Text),
                _ => None,
            };
            if let Some(kind) = kind {
                table.columns.push((column.to_owned(), kind));
                let declaration = after.split([',', '\n', '{']).next().unwrap_or_default();
                if declaration.contains("PRIMARY KEY") {
                    table.key.push(column.to_owned());
                }
            }
            rest = after;
        }
        if let Some((_, list)) = body.split_once("PRIMARY KEY (") {
            let list = list.split(')').next().unwrap_or_default();
            table.key = list.split(',').map(|column| column.trim().to_owned()).collect();
        }
        found.push(table);
    }
    found
}

impl Tx<'_> {
    /// Rows whose number of columns is known only when it runs.
    fn write_rows(&mut self, write: &Write<'_>, rows: &[Vec<Value<'_>>]) -> Result<usize> {
        let connection: &Connection = self.reader.connection;
        self.reader.stats.statements.fetch_add(1, Ordering::Relaxed);
        self.outcome.changed = true;
        connection.write(write, rows).map_err(|failure| {
            self.outcome.failed = true;
            failure.fault
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Directory, clock, event, in_memory, int, options, publish};
    use crate::{event_log, seal};

    #[test]
    fn tables_are_read_from_migrations() {
        let sql = "-- first {int}\nCREATE TABLE a (\n id {id} NOT NULL PRIMARY KEY,\n doc {text}\n) {clustered};\n\
            CREATE TABLE pub_b (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};\n\
            CREATE TABLE c (\n n {int} NOT NULL,\n k {long_key},\n PRIMARY KEY (k, n)\n);CREATE INDEX c_n ON c (n);";
        let table = |name: &str, columns: &[(&str, Holds)], key: &[&str]| Table {
            name: name.to_owned(),
            columns: columns.iter().map(|&(name, kind)| (name.to_owned(), kind)).collect(),
            key: key.iter().map(|&key| key.to_owned()).collect(),
        };
        let expected = [
            table("a", &[("id", Holds::Bytes), ("doc", Holds::Text)], &["id"]),
            table("pub_b", &[("doc_key", Holds::Bytes), ("doc", Holds::Text)], &["doc_key"]),
            table("c", &[("n", Holds::Int), ("k", Holds::Text)], &["k", "n"]),
        ];
        assert_eq!(tables(sql), expected);
    }

    #[test]
    fn everything_is_copied_and_only_into_an_empty_database() {
        let directory = Directory::new();
        let from = directory.open();
        let events: Vec<_> = (0..4_500).map(|n| event(&format!("s{n}"))).collect();
        publish(&from, &events);
        while seal::step(&from).unwrap() > 0 {}
        from.write("test", Lane::Front, "tester", |tx| {
            let rows: Vec<[Value<'_>; 2]> = (0..2_500).map(|n| [n.into(), Value::Text(None)]).collect();
            tx.insert("item", ["id", "name"], &rows, OnDuplicate::Fail)
        })
        .unwrap();
        let migrations = options(&clock(), None).migrations;
        let into = in_memory();
        let copied = copy(&from, &into, &migrations, |_| {}).unwrap();
        let count = |table: &str| copied.iter().find(|one| one.table == table).unwrap().rows;
        assert_eq!((count("outbox_event"), count("item"), count("log_head"), count("seal")), (4_500, 2_500, 1, 2));
        assert_eq!(into.read(event_log::head).unwrap(), 4_500);
        assert_eq!(into.read(seal::verify).unwrap(), (None, 4_500));
        assert_eq!(int(&into, "SELECT CAST(COUNT(*) AS BIGINT) FROM item WHERE name IS NULL"), 2_500);
        assert_eq!(copy(&from, &into, &migrations, |_| {}).unwrap_err().code(), "target_not_empty");
    }
}
