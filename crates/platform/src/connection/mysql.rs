//! MariaDB and MySQL by the synchronous `mysql` client. Reads and single statements are prepared; rows are written as
//! literals of one statement, because a prepared one would have to be prepared anew for every number of rows.

use std::cell::{Cell as Place, RefCell};
use std::fmt::Write as _;
use std::time::Duration;

use kernel::{Fault, Result, Timestamp, problems};
use mysql::consts::{CapabilityFlags, ColumnType};
use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts, OptsBuilder, Params};

use super::{Cell, Class, Failure, Head, REFUSED, WIRE_TIMEOUT, Write, disk_full};
use crate::dialect::{Dialect, mysql_casts};
use crate::location::Server;
use crate::sql::{OnDuplicate, Row, Value};
use crate::tls;

/// A statement's text ends at about this size: a quarter of the smallest `max_allowed_packet` that is accepted.
const LARGEST_TEXT: usize = 4 << 20;
/// The character set number of columns that hold bytes.
const BINARY: u16 = 63;

/// What a column of a row holds.
pub(crate) fn cell(row: &mysql::Row, column: usize) -> Result<Cell<'_>> {
    let wrong = |words: &dyn std::fmt::Display| Fault::internal(format!("column {column}: {words}"));
    let value = row.as_ref(column).ok_or_else(|| wrong(&"is not there"))?;
    match value {
        mysql::Value::NULL => Ok(Cell::Null),
        mysql::Value::Int(value) => Ok(Cell::Int(*value)),
        mysql::Value::UInt(value) => i64::try_from(*value).map(Cell::Int).map_err(|error| wrong(&error)),
        mysql::Value::Bytes(bytes) => {
            let kind = &row.columns_ref()[column];
            let text = || std::str::from_utf8(bytes).map_err(|error| wrong(&error));
            match kind.column_type() {
                // The text protocol has numbers as digits.
                ColumnType::MYSQL_TYPE_LONGLONG | ColumnType::MYSQL_TYPE_LONG | ColumnType::MYSQL_TYPE_TINY => {
                    text()?.parse().map(Cell::Int).map_err(|error| wrong(&error))
                }
                _ if kind.character_set() == BINARY => Ok(Cell::Bytes(bytes)),
                _ => text().map(Cell::Text),
            }
        }
        other => Err(wrong(&format!("{other:?}"))),
    }
}

fn parameter(value: &Value<'_>) -> mysql::Value {
    match *value {
        Value::Int(Some(value)) => mysql::Value::Int(value),
        Value::Text(Some(value)) => mysql::Value::Bytes(value.as_bytes().to_vec()),
        Value::Bytes(Some(value)) => mysql::Value::Bytes(value.to_vec()),
        Value::Int(None) | Value::Text(None) | Value::Bytes(None) => mysql::Value::NULL,
    }
}

/// A value as a literal. Backslashes escape: `sql_mode` is ours, without NO_BACKSLASH_ESCAPES, and the connection's
/// character set is UTF-8, in which no other character contains these bytes.
fn literal(sql: &mut String, value: &Value<'_>) {
    match *value {
        Value::Int(Some(value)) => {
            let _ = write!(sql, "{value}");
        }
        Value::Text(Some(text)) => {
            sql.push('\'');
            for part in text.split_inclusive(['\'', '\\', '\0']) {
                let Some(special) = part.chars().last().filter(|c| matches!(c, '\'' | '\\' | '\0')) else {
                    sql.push_str(part);
                    continue;
                };
                sql.push_str(&part[..part.len() - 1]);
                sql.push_str(match special {
                    '\'' => "\\'",
                    '\\' => "\\\\",
                    _ => "\\0",
                });
            }
            sql.push('\'');
        }
        Value::Bytes(Some(bytes)) => {
            sql.push_str("X'");
            for byte in bytes {
                for digit in [byte >> 4, byte & 15] {
                    sql.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
                }
            }
            sql.push('\'');
        }
        Value::Int(None) | Value::Text(None) | Value::Bytes(None) => sql.push_str("NULL"),
    }
}

/// A connection that makes itself anew when it is lost; never in the middle of a transaction.
pub(crate) struct MysqlConnection {
    opts: Opts,
    writes: bool,
    client: RefCell<Option<Conn>>,
    dialect: Place<Dialect>,
    /// What was the worst that happened in the open transaction.
    failed: Place<Option<Class>>,
}

impl MysqlConnection {
    /// Connects, for writing or for reading only.
    pub(crate) fn open(server: &Server<Opts>, writes: bool) -> Result<Self> {
        let builder = OptsBuilder::from_opts(server.options.clone())
            .ssl_opts(server.tls.mysql())
            .tcp_connect_timeout(Some(WIRE_TIMEOUT))
            .tcp_keepalive_time_ms(Some(10_000))
            .tcp_user_timeout_ms(u32::try_from(WIRE_TIMEOUT.as_millis()).ok())
            .read_timeout(Some(Duration::from_secs(if writes { 90 } else { 660 })))
            .stmt_cache_size(256_usize)
            .prefer_socket(false)
            // Rows that an update finds count, whether it changes them or not, as on the other databases.
            .additional_capabilities(CapabilityFlags::CLIENT_FOUND_ROWS);
        let connection = Self {
            opts: builder.into(),
            writes,
            client: RefCell::new(None),
            dialect: Place::new(Dialect::Mariadb),
            failed: Place::new(None),
        };
        connection.connect()?;
        Ok(connection)
    }

    pub(crate) const fn failed(&self) -> Option<Class> {
        self.failed.get()
    }

    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect.get()
    }

    fn connect(&self) -> Result<(), Failure> {
        *self.client.borrow_mut() = None;
        let run = || {
            let mut client = Conn::new(self.opts.clone())?;
            let version: Option<String> = client.query_first("SELECT VERSION()")?;
            let mariadb = version.is_some_and(|version| version.contains("MariaDB"));
            let collation = if mariadb { "utf8mb4_nopad_bin" } else { "utf8mb4_0900_bin" };
            client.query_drop(format!("SET NAMES utf8mb4 COLLATE {collation}"))?;
            client.query_drop(
                "SET sql_mode = 'STRICT_ALL_TABLES,ONLY_FULL_GROUP_BY,PIPES_AS_CONCAT,NO_ENGINE_SUBSTITUTION'",
            )?;
            client.query_drop("SET time_zone = '+00:00', innodb_lock_wait_timeout = 15")?;
            let isolation = if self.writes { "READ COMMITTED" } else { "REPEATABLE READ" };
            client.query_drop(format!("SET SESSION TRANSACTION ISOLATION LEVEL {isolation}"))?;
            // A process that froze inside a transaction must not hold the log's head for ever.
            if mariadb && self.writes {
                client.query_drop("SET idle_transaction_timeout = 2, max_statement_time = 60")?;
            } else if self.writes {
                client.query_drop("SET wait_timeout = 5")?;
            }
            Ok((client, if mariadb { Dialect::Mariadb } else { Dialect::Mysql }))
        };
        let (client, dialect) = run().map_err(|error: mysql::Error| failure(&error))?;
        *self.client.borrow_mut() = Some(client);
        self.dialect.set(dialect);
        Ok(())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Conn) -> Result<T, mysql::Error>) -> Result<T, Failure> {
        let mut client = self.client.borrow_mut();
        let outcome = match client.as_mut() {
            Some(client) => work(client),
            None => return Err(Failure::lost("it was lost earlier in this transaction")),
        };
        outcome.map_err(|error| {
            let failure = failure(&error);
            self.failed.set(self.failed.get().max(Some(failure.class)));
            if is_lost(&error) {
                *client = None;
            }
            failure
        })
    }

    /// Runs what begins a transaction; once more on a fresh connection when the old one turns out to be lost.
    fn begin_with<T>(&self, work: impl Fn(&mut Conn) -> Result<T, mysql::Error>) -> Result<T, Failure> {
        self.failed.set(None);
        if self.client.borrow().is_some() {
            match self.with(&work) {
                Err(_) if self.client.borrow().is_none() => self.failed.set(None),
                outcome => return outcome,
            }
        }
        self.connect()?;
        self.with(work)
    }

    pub(crate) fn begin(&self) -> Result<Head, Failure> {
        let head: Option<(i64, i64)> = self.begin_with(|client| {
            client.query_drop("START TRANSACTION")?;
            client.exec_first("SELECT position, known_at FROM log_head WHERE id = 1 FOR UPDATE", ())
        })?;
        let (position, known_at) = head.ok_or_else(|| Failure::ordinary("the log has no head: run `alpes migrate`"))?;
        Ok(Head { position, known_at: Timestamp::from_micros(known_at) })
    }

    pub(crate) fn begin_read(&self) -> Result<(), Failure> {
        self.begin_with(|client| client.query_drop("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"))
    }

    pub(crate) fn commit(&self) -> Result<(), Failure> {
        self.with(|client| client.query_drop("COMMIT"))
    }

    pub(crate) fn rollback(&self) {
        if self.client.borrow().is_some() && self.with(|client| client.query_drop("ROLLBACK")).is_err() {
            *self.client.borrow_mut() = None;
        }
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.with(|client| client.query_drop(sql))
    }

    pub(crate) fn query<'v>(
        &self,
        sql: &str,
        params: impl Iterator<Item = &'v Value<'v>>,
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let params = positional(params);
        let rows: Vec<mysql::Row> = self.with(|client| client.exec(&*mysql_casts(sql), params))?;
        rows.iter().try_for_each(|row| each(&Row::Mysql(row)))
    }

    pub(crate) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, Failure> {
        let params = positional(params.iter());
        self.with(|client| client.exec_iter(&*mysql_casts(sql), params).map(|result| result.affected_rows()))
            .and_then(|matched| usize::try_from(matched).map_err(Failure::ordinary))
    }

    pub(crate) fn write<'r, R: AsRef<[Value<'r>]>>(&self, write: &Write<'_>, rows: &[R]) -> Result<usize, Failure> {
        let mut matched = 0;
        let mut rest = rows;
        while !rest.is_empty() {
            let (sql, taken) = statement(write, rest);
            let affected = self.with(|client| client.query_iter(sql).map(|result| result.affected_rows()))?;
            matched += usize::try_from(affected).map_err(Failure::ordinary)?;
            rest = &rest[taken..];
        }
        Ok(matched)
    }

    /// Refuses settings under which a commit would not be durable.
    pub(crate) fn preflight(&self) -> Result<()> {
        let variable =
            |name: &str| self.with(|client| client.query_first::<String, _>(format!("SELECT CAST(@@{name} AS CHAR)")));
        for (name, right) in [("innodb_flush_log_at_trx_commit", "1"), ("innodb_doublewrite", "1")] {
            let value = variable(name)?.unwrap_or_default();
            if value != right && value != "ON" {
                let detail = format!("{name} is {value}; set `{name} = {right}` under [mysqld] and restart");
                return Err(Fault::new(&REFUSED, detail));
            }
        }
        let has_binlog = matches!(variable("log_bin")?.as_deref(), Some("1" | "ON"));
        if has_binlog && variable("sync_binlog")?.as_deref() != Some("1") {
            return Err(Fault::new(&REFUSED, "sync_binlog is not 1; set `sync_binlog = 1` under [mysqld] and restart"));
        }
        let packet: u64 = variable("max_allowed_packet")?.and_then(|text| text.parse().ok()).unwrap_or(0);
        if packet < 16 << 20 {
            let detail =
                format!("max_allowed_packet is {packet}; set `max_allowed_packet = 16M` under [mysqld] and restart");
            return Err(Fault::new(&REFUSED, detail));
        }
        Ok(())
    }
}

fn positional<'v>(params: impl Iterator<Item = &'v Value<'v>>) -> Params {
    let params: Vec<mysql::Value> = params.map(parameter).collect();
    if params.is_empty() { Params::Empty } else { Params::Positional(params) }
}

/// The statement for as many of `rows` as fit, and how many those are.
fn statement<'r, R: AsRef<[Value<'r>]>>(write: &Write<'_>, rows: &[R]) -> (String, usize) {
    let mut sql = String::with_capacity(256 + rows.len().min(4_096) * 64);
    let taken;
    match write {
        Write::Insert { table, columns, on_duplicate } => {
            let _ = write!(sql, "INSERT INTO {table} ({}) VALUES ", columns.join(", "));
            taken = list(&mut sql, rows, ["(", ")", ", "], |_, _| {});
            let mut tail = |key: &[&str], expression: &dyn Fn(&str) -> String| {
                let assignments: Vec<String> =
                    columns.iter().filter(|column| !key.contains(column)).map(|column| expression(column)).collect();
                let _ = write!(sql, " ON DUPLICATE KEY UPDATE {}", assignments.join(", "));
            };
            match on_duplicate {
                OnDuplicate::Fail => {}
                OnDuplicate::Ignore => tail(&columns[1..], &|column| format!("{column} = {column}")),
                OnDuplicate::Replace { key } => tail(key, &|column| format!("{column} = VALUES({column})")),
                OnDuplicate::Add { key } => tail(key, &|column| format!("{column} = {column} + VALUES({column})")),
            }
        }
        Write::Update { table, set, key } => {
            // The list is read first and each of its rows finds its own by key: never the other way round.
            sql.push_str("UPDATE (");
            let name = |sql: &mut String, column: usize| {
                let _ = write!(sql, " AS c{column}");
            };
            taken = list(&mut sql, rows, ["SELECT ", "", " UNION ALL "], name);
            let find: Vec<String> = key
                .iter()
                .enumerate()
                .map(|(index, column)| format!("{table}.{column} = given.c{}", set.len() + index))
                .collect();
            let assign: Vec<String> =
                set.iter().enumerate().map(|(index, column)| format!("{table}.{column} = given.c{index}")).collect();
            let _ = write!(sql, ") given STRAIGHT_JOIN {table} ON {} SET {}", find.join(" AND "), assign.join(", "));
        }
    }
    (sql, taken)
}

/// Appends rows of literals up to the largest text; `name` follows each value of the first row.
fn list<'r, R: AsRef<[Value<'r>]>>(
    sql: &mut String,
    rows: &[R],
    [open, close, between]: [&str; 3],
    name: impl Fn(&mut String, usize),
) -> usize {
    for (index, row) in rows.iter().enumerate() {
        if sql.len() > LARGEST_TEXT {
            return index;
        }
        sql.push_str(if index == 0 { "" } else { between });
        sql.push_str(open);
        for (column, value) in row.as_ref().iter().enumerate() {
            sql.push_str(if column == 0 { "" } else { ", " });
            literal(sql, value);
            if index == 0 {
                name(sql, column);
            }
        }
        sql.push_str(close);
    }
    rows.len()
}

/// Whether the connection is of no use after this error.
const fn is_lost(error: &mysql::Error) -> bool {
    match error {
        // A killed session, a shutdown, a time-out of an idle transaction.
        mysql::Error::MySqlError(server) => matches!(server.code, 1053 | 1927 | 2006 | 2013 | 4031),
        mysql::Error::IoError(_) | mysql::Error::CodecError(_) | mysql::Error::DriverError(_) => true,
        _ => false,
    }
}

fn failure(error: &mysql::Error) -> Failure {
    let unavailable =
        |class, words: &str| Failure::new(class, Fault::new(&problems::UNAVAILABLE, words.to_owned()).caused_by(error));
    // What the server says may quote anything.
    if let (false, Some(fault)) = (matches!(error, mysql::Error::MySqlError(_)), tls::refusal(error)) {
        return Failure::new(Class::Ordinary, fault);
    }
    if is_lost(error) {
        return Failure::lost(error);
    }
    let mysql::Error::MySqlError(server) = error else { return Failure::ordinary(error) };
    match server.code {
        1213 => unavailable(Class::Interrupted, "the database ended the transaction in favour of another"),
        1205 => unavailable(Class::Interrupted, "another process holds the log's head for too long"),
        1021 | 1114 | 3 | 20 => Failure::new(Class::Ordinary, disk_full(error)),
        1969 | 3024 => unavailable(Class::Ordinary, "the database took too long"),
        1040 | 1203 | 1226 => unavailable(Class::Ordinary, "the database is short of connections"),
        1044 | 1045 | 1049 => unavailable(Class::Ordinary, &format!("the database says: {}", server.message)),
        _ => Failure::ordinary(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_cannot_be_left() {
        let of = |value: Value<'_>| {
            let mut sql = String::new();
            literal(&mut sql, &value);
            sql
        };
        assert_eq!(of("it's".into()), r"'it\'s'");
        assert_eq!(of(r"\' OR 1=1 -- ".into()), r"'\\\' OR 1=1 -- '");
        assert_eq!(of("a\0b".into()), r"'a\0b'");
        assert_eq!(of("日本語\\".into()), r"'日本語\\'");
        assert_eq!((of((-5).into()), of(Value::Text(None))), ("-5".to_owned(), "NULL".to_owned()));
        assert_eq!(of(Value::Bytes(Some(&[0, 255, 0x27]))), "X'00ff27'");
    }

    #[test]
    fn a_statement_ends_before_it_becomes_too_large() {
        let text = "x".repeat(1 << 20);
        let rows: Vec<[Value<'_>; 1]> = (0..10).map(|_| [text.as_str().into()]).collect();
        let write = Write::Insert { table: "t", columns: &["a"], on_duplicate: OnDuplicate::Fail };
        let (sql, taken) = statement(&write, &rows);
        assert!((3..=5).contains(&taken) && sql.len() < 6 << 20, "{taken}");
        assert!(sql.ends_with("')"));
    }
}
