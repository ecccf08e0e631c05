//! What the tests share: a database of its own on a server, somebody who publishes, somebody who reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cdc::Stream;
use kernel::{EventRecord, IdSource, ManualClock, NewEvent, Result, Timestamp};
use mysql::prelude::Queryable as _;
use platform::{Db, DbOptions, Lane, Location, event_log};

/// 2026-01-01T00:00:00Z.
const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test on each server that is there.
pub(crate) fn on_each(test: impl Fn(&World)) {
    on_postgres(&test);
    on_mariadb(&test);
}

pub(crate) fn on_postgres(test: impl Fn(&World)) {
    on("ALPES_TEST_POSTGRES", test);
}

pub(crate) fn on_mariadb(test: impl Fn(&World)) {
    on("ALPES_TEST_MARIADB", test);
}

fn on(variable: &str, test: impl Fn(&World)) {
    match std::env::var(variable) {
        Ok(url) => test(&World::new(&url)),
        Err(_) => println!("NOT RUN: {variable} is not set"),
    }
}

/// A database of its own, removed in the end with its slot.
pub(crate) struct World {
    pub(crate) location: Location,
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) server_url: String,
    database: String,
    db: Option<Db>,
}

impl World {
    pub(crate) fn new(server_url: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let database = format!("cdc_{name}");
        sql(server_url, &format!("CREATE DATABASE {database}"));
        let url = format!("{}/{database}", server_url.rsplit_once('/').unwrap().0);
        let location = Location::parse(&url, Path::new(".")).unwrap();
        let db = Some(open(&location));
        Self { location, name: format!("test_{name}"), url, server_url: server_url.to_owned(), database, db }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.url.starts_with("postgres")
    }

    pub(crate) fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    pub(crate) fn publish(&self, events: &[NewEvent]) {
        self.db().write("test", Lane::Front, "tester", |tx| tx.publish(events)).unwrap();
    }

    /// A stream that begins now.
    pub(crate) fn open(&self, after: i64) -> Stream {
        let token = cdc::setup(&self.location, &self.name).unwrap();
        self.resume(after, &token)
    }

    /// A stream that goes on; a reader that was just killed may still be counted as one for a moment.
    pub(crate) fn resume(&self, after: i64, token: &str) -> Stream {
        resumed(&self.location, &self.name, after, token)
    }

    pub(crate) fn table(&self) -> Vec<EventRecord> {
        self.db().read(|reader| event_log::range(reader, 0, i64::MAX, &[], 1_000_000)).unwrap()
    }

    pub(crate) fn sql(&self, text: &str) {
        sql(&self.url, text);
    }

    pub(crate) fn number(&self, query: &str) -> i64 {
        if self.is_postgres() {
            postgres::Client::connect(&self.url, postgres::NoTls).unwrap().query_one(query, &[]).unwrap().get(0)
        } else {
            mysql::Conn::new(self.url.as_str()).unwrap().query_first(query).unwrap().unwrap()
        }
    }

    /// Ends every connection to this database, as far as that succeeds: another such turn may end this one.
    pub(crate) fn kill_connections(&self) {
        let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                   WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        let _ = if self.is_postgres() { try_sql(&self.url, sql) } else { self.kill_where("command <> 'Binlog Dump'") };
    }

    /// Ends the connection over which the stream is read, on the server's side.
    pub(crate) fn kill_reader(&self) {
        let slot = format!("alpes_{}", self.name);
        let sql = format!(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
             WHERE slot_name = '{slot}' AND active_pid IS NOT NULL"
        );
        let _ = if self.is_postgres() { try_sql(&self.url, &sql) } else { self.kill_where("command = 'Binlog Dump'") };
    }

    fn kill_where(&self, condition: &str) -> Result<(), Box<dyn std::error::Error>> {
        let mut conn = mysql::Conn::new(self.url.as_str())?;
        let own = conn.connection_id();
        let sql = format!("SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND {condition}");
        for id in conn.query::<u32, _>(sql)?.into_iter().filter(|&id| id != own) {
            let _ = conn.query_drop(format!("KILL {id}"));
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.db = None;
        let _ = cdc::remove(&self.location, &self.name);
        if self.is_postgres() {
            let slots = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                         WHERE database = current_database() AND NOT active";
            let _ = try_sql(&self.url, slots);
        }
        let force = if self.is_postgres() { " WITH (FORCE)" } else { "" };
        let _ = try_sql(&self.server_url, &format!("DROP DATABASE {}{force}", self.database));
    }
}

pub(crate) fn open(location: &Location) -> Db {
    let options = DbOptions {
        clock: Arc::new(ManualClock::at(START)),
        ids: IdSource::from_number(u64::from(std::process::id())),
        hook: None,
        migrations: vec![platform::MIGRATIONS],
    };
    Db::open(location, options).unwrap()
}

pub(crate) fn sql(url: &str, text: &str) {
    try_sql(url, text).unwrap();
}

fn try_sql(url: &str, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    if url.starts_with("postgres") {
        postgres::Client::connect(url, postgres::NoTls)?.batch_execute(text)?;
    } else {
        mysql::Conn::new(url)?.query_drop(text)?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "real servers take real time")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[expect(clippy::disallowed_methods, reason = "real servers take real time")]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

pub(crate) fn event(subject: &str, payload: &str) -> NewEvent {
    NewEvent {
        event_type: "tests.happened.v1",
        aggregate: "test",
        subject: subject.to_owned(),
        payload: payload.to_owned(),
        causation_id: None,
        correlation_id: None,
    }
}

/// Reads until `count` events have come.
pub(crate) fn read(stream: &mut Stream, count: usize) -> Vec<EventRecord> {
    let (mut found, deadline) = (Vec::new(), now() + PATIENCE);
    while found.len() < count && now() < deadline {
        found.extend(stream.next(Duration::from_millis(500)).unwrap());
    }
    assert_eq!(found.len(), count, "not all events have come");
    found
}

/// Reads until the stream ends with a fault.
pub(crate) fn fault_of(stream: &mut Stream) -> kernel::Fault {
    let deadline = now() + PATIENCE;
    while now() < deadline {
        let next: Result<Vec<EventRecord>> = stream.next(Duration::from_millis(500));
        if let Err(fault) = next {
            return fault;
        }
    }
    panic!("the stream did not end")
}

pub(crate) fn positions(events: &[EventRecord]) -> Vec<i64> {
    events.iter().map(|event| event.position).collect()
}

/// Opens a stream when its slot is free.
pub(crate) fn resumed(location: &Location, name: &str, after: i64, token: &str) -> Stream {
    for _ in 0..100 {
        match Stream::open(location, name, after, Some(token)) {
            Ok(stream) => return stream,
            Err(fault) if fault.code() == "unavailable" => pause(Duration::from_millis(100)),
            Err(fault) => panic!("{fault}"),
        }
    }
    panic!("the slot never became free")
}
