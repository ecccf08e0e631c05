//! What the tests of this crate share: databases in memory and on disk, a clock that stands, plain events.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::{IdSource, ManualClock, NewEvent, Timestamp};

use crate::{Db, DbOptions, Hook, Location, MIGRATIONS, Migration};

/// 2026-01-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// Tables to play with.
pub(crate) const TABLES: &[Migration] = &[Migration::new(
    1_000,
    "tests",
    "CREATE TABLE item (id {int} NOT NULL PRIMARY KEY, name {key}, amount {int}, data {bytes}) {clustered};
     CREATE TABLE pair (a {int} NOT NULL, b {key} NOT NULL, amount {int} NOT NULL, PRIMARY KEY (a, b)) {clustered};
     CREATE TABLE seen (consumer {key} NOT NULL, position {int} NOT NULL, PRIMARY KEY (consumer, position)) {clustered};
     CREATE TABLE fold (subject {key} NOT NULL PRIMARY KEY, state {int} NOT NULL) {clustered};
     CREATE TABLE thing (id {id} NOT NULL PRIMARY KEY, kind {word}, number {int}) {clustered};
     CREATE TABLE pub_thing (doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};",
)];

/// A directory that is removed in the end.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("alpes-platform-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn open(&self) -> Db {
        Db::open(&self.location(), options(&clock(), None)).unwrap()
    }

    pub(crate) fn location(&self) -> Location {
        Location::directory(&self.0)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(START))
}

pub(crate) fn options(clock: &Arc<ManualClock>, hook: Option<Hook>) -> DbOptions {
    let migrations = vec![MIGRATIONS, TABLES];
    DbOptions { clock: clock.clone(), ids: IdSource::from_number(1), hook, migrations }
}

pub(crate) fn in_memory() -> Db {
    Db::for_test(options(&clock(), None)).unwrap()
}

pub(crate) fn with_hook(hook: Hook) -> Db {
    Db::for_test(options(&clock(), Some(hook))).unwrap()
}

/// An event of type `tests.happened.v1`.
pub(crate) fn event(subject: &str) -> NewEvent {
    event_of("tests.happened.v1", subject)
}

pub(crate) fn event_of(event_type: &'static str, subject: &str) -> NewEvent {
    NewEvent {
        event_type,
        aggregate: "test",
        subject: subject.to_owned(),
        payload: format!("{{\"subject\":\"{subject}\"}}"),
        causation_id: None,
        correlation_id: None,
    }
}

/// Publishes in one transaction; answers the first position.
pub(crate) fn publish(db: &Db, events: &[NewEvent]) -> i64 {
    db.write("publish", crate::Lane::Front, "tester", |tx| tx.publish(events)).unwrap()
}

/// The answer of a query for one integer.
pub(crate) fn int(db: &Db, sql: &str) -> i64 {
    db.read(|reader| reader.query_one(sql, &[], |row| row.int(0))).unwrap().unwrap()
}
