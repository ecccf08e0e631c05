//! PostgreSQL by the synchronous `postgres` client: rows travel as one array per column, so that a statement's text does
//! not depend on how many there are.

use std::cell::{Cell as Place, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Fault, Result, Timestamp, problems};
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, Config, SimpleQueryMessage, Statement};

use super::{Cell, Class, Failure, Head, REFUSED, WIRE_TIMEOUT, Write, disk_full, sqlite};
use crate::dialect::numbered;
use crate::location::Server;
use crate::sql::{Row, Value};
use crate::tls;

type Unboxed = Box<dyn std::error::Error + Sync + Send>;

impl ToSql for Value<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Unboxed> {
        match self {
            Self::Int(value) => value.to_sql(kind, out),
            Self::Text(value) => value.to_sql(kind, out),
            Self::Bytes(value) => value.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}

impl<'r> FromSql<'r> for Cell<'r> {
    fn from_sql(kind: &Type, raw: &'r [u8]) -> Result<Self, Unboxed> {
        match *kind {
            Type::INT8 => i64::from_sql(kind, raw).map(Cell::Int),
            Type::INT4 => i32::from_sql(kind, raw).map(|value| Cell::Int(value.into())),
            Type::BYTEA => Ok(Cell::Bytes(raw)),
            _ => Ok(Cell::Text(std::str::from_utf8(raw)?)),
        }
    }

    fn from_sql_null(_: &Type) -> Result<Self, Unboxed> {
        Ok(Cell::Null)
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8 | Type::INT4 | Type::BYTEA | Type::TEXT | Type::VARCHAR | Type::UNKNOWN)
    }
}

/// What a column of a row holds.
pub(crate) fn cell(row: &postgres::Row, column: usize) -> Result<Cell<'_>> {
    row.try_get(column).map_err(|error| Fault::internal(format!("column {column}: {error}")))
}

/// The values of one column over all rows.
#[derive(Debug)]
enum Array<'r> {
    Int(Vec<Option<i64>>),
    Text(Vec<Option<&'r str>>),
    Bytes(Vec<Option<&'r [u8]>>),
}

impl<'r> Array<'r> {
    /// The column's name of type, told by its first value: each null has a type of its own.
    const fn of(value: &Value<'_>) -> (Type, &'static str) {
        match value {
            Value::Int(_) => (Type::INT8_ARRAY, "bigint[]"),
            Value::Text(_) => (Type::TEXT_ARRAY, "text[]"),
            Value::Bytes(_) => (Type::BYTEA_ARRAY, "bytea[]"),
        }
    }

    fn column(rows: &[impl AsRef<[Value<'r>]>], column: usize) -> Result<Self, Failure> {
        let values = rows.iter().map(|row| row.as_ref()[column]);
        let mixed = || Failure::ordinary(format!("column {column} mixes types"));
        Ok(match rows[0].as_ref()[column] {
            Value::Int(_) => {
                let value = |value| if let Value::Int(value) = value { Ok(value) } else { Err(mixed()) };
                Self::Int(values.map(value).collect::<Result<_, _>>()?)
            }
            Value::Text(_) => {
                let value = |value| if let Value::Text(value) = value { Ok(value) } else { Err(mixed()) };
                Self::Text(values.map(value).collect::<Result<_, _>>()?)
            }
            Value::Bytes(_) => {
                let value = |value| if let Value::Bytes(value) = value { Ok(value) } else { Err(mixed()) };
                Self::Bytes(values.map(value).collect::<Result<_, _>>()?)
            }
        })
    }

    /// One array per column.
    fn columns(rows: &[impl AsRef<[Value<'r>]>]) -> Result<Vec<Self>, Failure> {
        (0..rows[0].as_ref().len()).map(|column| Self::column(rows, column)).collect()
    }
}

impl ToSql for Array<'_> {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> Result<IsNull, Unboxed> {
        match self {
            Self::Int(values) => values.to_sql(kind, out),
            Self::Text(values) => values.to_sql(kind, out),
            Self::Bytes(values) => values.to_sql(kind, out),
        }
    }

    fn accepts(kind: &Type) -> bool {
        matches!(*kind, Type::INT8_ARRAY | Type::TEXT_ARRAY | Type::BYTEA_ARRAY)
    }

    to_sql_checked!();
}

/// A connection that makes itself anew when it is lost; never in the middle of a transaction.
pub(crate) struct PostgresConnection {
    server: Server<Config>,
    writes: bool,
    client: RefCell<Option<Client>>,
    statements: RefCell<BTreeMap<String, Statement>>,
    /// What was the worst that happened in the open transaction: PostgreSQL answers a COMMIT after a failed statement as
    /// if all were well, and rolls back.
    failed: Place<Option<Class>>,
}

impl PostgresConnection {
    /// Connects, for writing or for reading only.
    pub(crate) fn open(server: &Server<Config>, writes: bool) -> Result<Self> {
        let connection = Self {
            server: server.clone(),
            writes,
            client: RefCell::new(None),
            statements: RefCell::new(BTreeMap::new()),
            failed: Place::new(None),
        };
        connection.connect()?;
        Ok(connection)
    }

    pub(crate) const fn failed(&self) -> Option<Class> {
        self.failed.get()
    }

    fn connect(&self) -> Result<(), Failure> {
        self.statements.borrow_mut().clear();
        *self.client.borrow_mut() = None;
        let mut config = self.server.options.clone();
        config.connect_timeout(WIRE_TIMEOUT).application_name("alpes").keepalives_idle(Duration::from_secs(10));
        config.tcp_user_timeout(WIRE_TIMEOUT);
        let connected = self.server.tls.postgres(config).map_err(|fault| Failure::new(Class::Ordinary, fault))?;
        let mut client = connected.map_err(|error| failure(&error))?;
        // Every query here finds its rows by an index. What the planner believes about a table that has grown since it
        // was last analysed must not turn that into a walk over all of it. So one plan per statement will do, and nothing
        // is planned again.
        client
            .batch_execute(
                "SET jit = off; SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
             SET enable_mergejoin = off; SET random_page_cost = 1.1",
            )
            .map_err(|error| failure(&error))?;
        // A process that froze inside a transaction must not hold the log's head for ever: the server ends its session.
        let (statement, idle) = if self.writes { ("60s", "2s") } else { ("600s", "600s") };
        client
            .batch_execute(&format!(
                "SET default_transaction_isolation = 'read committed'; SET plan_cache_mode = force_generic_plan; \
                 SET client_min_messages = warning; SET lock_timeout = '15s'; SET statement_timeout = '{statement}'; \
                 SET idle_in_transaction_session_timeout = '{idle}'"
            ))
            .map_err(|error| failure(&error))?;
        *self.client.borrow_mut() = Some(client);
        Ok(())
    }

    /// Runs `work` with the client; a failure is remembered until the next transaction, and a lost client let go.
    fn with<T>(&self, work: impl FnOnce(&mut Client) -> Result<T, postgres::Error>) -> Result<T, Failure> {
        let mut client = self.client.borrow_mut();
        let outcome = match client.as_mut() {
            Some(client) => work(client).map_err(|error| failure(&error)),
            None => Err(Failure::lost("it was lost earlier in this transaction")),
        };
        if let Err(failure) = &outcome {
            self.failed.set(self.failed.get().max(Some(failure.class)));
            if client.as_ref().is_some_and(Client::is_closed) {
                *client = None;
            }
        }
        outcome
    }

    /// Runs what begins a transaction; once more on a fresh connection when the old one turns out to be lost.
    fn begin_with<T>(&self, work: impl Fn(&mut Client) -> Result<T, postgres::Error>) -> Result<T, Failure> {
        self.failed.set(None);
        let alive = self.client.borrow().as_ref().is_some_and(|client| !client.is_closed());
        if alive {
            match self.with(&work) {
                Err(_) if self.client.borrow().is_none() => self.failed.set(None),
                outcome => return outcome,
            }
        }
        self.connect()?;
        self.with(work)
    }

    pub(crate) fn begin(&self) -> Result<Head, Failure> {
        let sql = "BEGIN; SELECT position, known_at FROM log_head WHERE id = 1 FOR UPDATE";
        let messages = self.begin_with(|client| client.simple_query(sql))?;
        let number = |column| {
            messages.iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(column).and_then(|text: &str| text.parse::<i64>().ok()),
                _ => None,
            })
        };
        match (number(0), number(1)) {
            (Some(position), Some(known_at)) => Ok(Head { position, known_at: Timestamp::from_micros(known_at) }),
            _ => Err(Failure::ordinary("the log has no head: run `alpes migrate`")),
        }
    }

    pub(crate) fn begin_read(&self) -> Result<(), Failure> {
        self.begin_with(|client| client.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
    }

    pub(crate) fn commit(&self) -> Result<(), Failure> {
        self.with(|client| client.batch_execute("COMMIT"))
    }

    pub(crate) fn rollback(&self) {
        if self.client.borrow().is_some() && self.with(|client| client.batch_execute("ROLLBACK")).is_err() {
            *self.client.borrow_mut() = None;
        }
    }

    pub(crate) fn batch(&self, sql: &str) -> Result<(), Failure> {
        self.with(|client| client.batch_execute(sql))
    }

    /// Runs `work` with a statement that is prepared once per connection.
    fn prepared<T>(
        &self,
        sql: &str,
        types: &[Type],
        work: impl FnOnce(&mut Client, &Statement) -> Result<T, postgres::Error>,
    ) -> Result<T, Failure> {
        let known = self.statements.borrow().get(sql).cloned();
        self.with(|client| {
            let statement = match known {
                Some(statement) => statement,
                None => {
                    let statement = client.prepare_typed(sql, types)?;
                    self.statements.borrow_mut().insert(sql.to_owned(), statement.clone());
                    statement
                }
            };
            work(client, &statement)
        })
    }

    fn rows(&self, sql: &str, types: &[Type], params: &[&(dyn ToSql + Sync)]) -> Result<Vec<postgres::Row>, Failure> {
        self.prepared(sql, types, |client, statement| client.query(statement, params))
    }

    pub(crate) fn query<'v>(
        &self,
        sql: &str,
        params: impl Iterator<Item = &'v Value<'v>>,
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let params: Vec<&Value<'_>> = params.collect();
        let types: Vec<Type> = params.iter().map(|value| kind(value)).collect();
        let places: Vec<&(dyn ToSql + Sync)> = params.iter().map(|&value| value as _).collect();
        self.rows(&numbered(sql), &types, &places)?.iter().try_for_each(|row| each(&Row::Postgres(row)))
    }

    pub(crate) fn query_in<const N: usize>(
        &self,
        sql: &str,
        params: &[Value<'_>],
        keys: &[[Value<'_>; N]],
        mut each: impl FnMut(&Row<'_>) -> Result<()>,
    ) -> Result<()> {
        let arrays = Array::columns(keys)?;
        let (mut types, mut list): (Vec<Type>, Vec<String>) = (params.iter().map(kind).collect(), Vec::new());
        for value in &keys[0] {
            let (kind, name) = Array::of(value);
            types.push(kind);
            list.push(format!("${}::{name}", types.len()));
        }
        let list = list.join(", ");
        // A list of single keys is an index condition; of several columns, a join with the list.
        let sql = if N == 1 {
            sql.replacen("IN (?*)", &format!("= ANY({list})"), 1)
        } else {
            sql.replacen("?*", &format!("SELECT * FROM unnest({list})"), 1)
        };
        let places =
            params.iter().map(|value| value as &(dyn ToSql + Sync)).chain(arrays.iter().map(|array| array as _));
        let places: Vec<_> = places.collect();
        self.rows(&numbered(&sql), &types, &places)?.iter().try_for_each(|row| each(&Row::Postgres(row)))
    }

    pub(crate) fn execute(&self, sql: &str, params: &[Value<'_>]) -> Result<usize, Failure> {
        let types: Vec<Type> = params.iter().map(kind).collect();
        let places: Vec<&(dyn ToSql + Sync)> = params.iter().map(|value| value as _).collect();
        self.matched(&numbered(sql), &types, &places)
    }

    pub(crate) fn write<'r, R: AsRef<[Value<'r>]>>(&self, write: &Write<'_>, rows: &[R]) -> Result<usize, Failure> {
        let arrays = Array::columns(rows)?;
        let (types, names): (Vec<Type>, Vec<&str>) = rows[0].as_ref().iter().map(Array::of).unzip();
        let places: Vec<&(dyn ToSql + Sync)> = arrays.iter().map(|array| array as _).collect();
        self.matched(&statement(write, &names), &types, &places)
    }

    fn matched(&self, sql: &str, types: &[Type], places: &[&(dyn ToSql + Sync)]) -> Result<usize, Failure> {
        let matched = self.prepared(sql, types, |client, statement| client.execute(statement, places))?;
        usize::try_from(matched).map_err(Failure::ordinary)
    }

    /// Refuses settings under which a commit would not be durable or text would be compared in another way.
    pub(crate) fn preflight(&self) -> Result<()> {
        let show = |name: &str| {
            let messages = self.with(|client| client.simple_query(&format!("SHOW {name}")))?;
            Ok::<_, Failure>(messages.into_iter().find_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            }))
        };
        for (name, wrong, line) in [
            ("synchronous_commit", "off", "synchronous_commit = on"),
            ("fsync", "off", "fsync = on"),
            ("full_page_writes", "off", "full_page_writes = on"),
        ] {
            if show(name)?.as_deref() == Some(wrong) {
                let detail = format!("{name} is {wrong}; set `{line}` in postgresql.conf and reload");
                return Err(Fault::new(&REFUSED, detail));
            }
        }
        let encoding = show("server_encoding")?.unwrap_or_default();
        if encoding != "UTF8" {
            let detail = format!("the database's encoding is {encoding}; create it with ENCODING 'UTF8'");
            return Err(Fault::new(&REFUSED, detail));
        }
        Ok(())
    }
}

const fn kind(value: &Value<'_>) -> Type {
    match value {
        Value::Int(_) => Type::INT8,
        Value::Text(_) => Type::TEXT,
        Value::Bytes(_) => Type::BYTEA,
    }
}

fn statement(write: &Write<'_>, types: &[&str]) -> String {
    let arrays: Vec<String> = (1..).zip(types).map(|(number, name)| format!("${number}::{name}")).collect();
    let arrays = arrays.join(", ");
    match write {
        Write::Insert { table, columns, on_duplicate } => {
            let mut sql = format!("INSERT INTO {table} ({}) SELECT * FROM unnest({arrays})", columns.join(", "));
            sqlite::on_conflict(&mut sql, table, columns, *on_duplicate);
            sql
        }
        Write::Update { table, set, key } => {
            let names: Vec<String> = (0..types.len()).map(|number| format!("c{number}")).collect();
            let assign: Vec<String> =
                set.iter().zip(&names).map(|(column, name)| format!("{column} = given.{name}")).collect();
            let find: Vec<String> = key
                .iter()
                .zip(&names[set.len()..])
                .map(|(column, name)| format!("{table}.{column} = given.{name}"))
                .collect();
            format!(
                "UPDATE {table} SET {} FROM unnest({arrays}) AS given({}) WHERE {}",
                assign.join(", "),
                names.join(", "),
                find.join(" AND ")
            )
        }
    }
}

fn failure(error: &postgres::Error) -> Failure {
    let unavailable = |class, words: &str| {
        Failure::new(class, Fault::new(&problems::UNAVAILABLE, words.to_owned()).caused_by(format!("{error:?}")))
    };
    let Some(server) = error.as_db_error() else {
        if let Some(fault) = tls::refusal(error) {
            return Failure::new(Class::Ordinary, fault);
        }
        let io = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
        return if error.is_closed() || io || error.to_string().contains("connect") {
            Failure::lost(format!("{error:?}"))
        } else {
            Failure::ordinary(format!("{error:?}"))
        };
    };
    match server.code().code() {
        "40001" | "40P01" => unavailable(Class::Interrupted, "the database ended the transaction in favour of another"),
        "55P03" => unavailable(Class::Interrupted, "another process holds the log's head for too long"),
        "57P01" | "57P02" | "57P03" | "25P03" => Failure::lost(format!("{error:?}")),
        code if code.starts_with("08") => Failure::lost(format!("{error:?}")),
        "53100" => Failure::new(Class::Ordinary, disk_full(format!("{error:?}"))),
        "57014" => unavailable(Class::Ordinary, "the database took too long"),
        "28P01" | "28000" | "3D000" => {
            unavailable(Class::Ordinary, &format!("the database says: {}", server.message()))
        }
        code if code.starts_with("53") => unavailable(Class::Ordinary, "the database is short of means"),
        _ => Failure::ordinary(format!("{error:?}")),
    }
}
