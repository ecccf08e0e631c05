//! What only a server can get wrong: many processes, killed sessions, frozen ones. Run with `ALPES_TEST_DATABASE`, the URL
//! of a server; without it there is nothing to prove here.
#![expect(clippy::disallowed_methods, reason = "sessions are killed and processes freeze in real time")]

use std::sync::atomic::AtomicI64;
use std::time::Duration as Wall;

use super::*;
use crate::event_log;
use crate::sql::{OnDuplicate, Value};
use crate::testing::{clock, event, int, options, publish};

/// A fresh database on the server, with as many processes over it as asked for.
fn processes(count: usize) -> Vec<Db> {
    let Some(first) = Db::for_test_alone(options(&clock(), None)).unwrap() else { return Vec::new() };
    let location = Location(first.place.clone().unwrap());
    let others = (1..count).map(|number| {
        let ids = IdSource::from_number(u64::try_from(number).unwrap() + 1);
        Db::open(&location, DbOptions { ids, ..options(&clock(), None) }).unwrap()
    });
    let others: Vec<Db> = others.collect();
    std::iter::once(first).chain(others).collect()
}

/// Ends all our sessions of this database, as an operator or a failing network would; not the superuser's, who vacuums.
pub(crate) fn kill_sessions(db: &Db) {
    let place = db.place.clone().unwrap();
    let assassin = place.connect(false).unwrap();
    match &place {
        Place::Postgres(_) => assassin
            .batch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                 WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()",
            )
            .unwrap(),
        _ => {
            let mut ids = Vec::new();
            let sql = "SELECT CAST(id AS BIGINT) FROM information_schema.processlist \
                WHERE db = DATABASE() AND id <> CONNECTION_ID()";
            let _ = assassin.query(sql, std::iter::empty(), |row| row.int(0).map(|id| ids.push(id)));
            // It may have ended by itself meanwhile.
            ids.iter().for_each(|id| drop(assassin.batch(&format!("KILL {id}"))));
        }
    }
}

#[test]
fn positions_are_commit_order_without_gaps_for_eight_processes_with_killed_sessions() {
    let processes = processes(8);
    let Some(first) = processes.first() else { return };
    let published = AtomicI64::new(0);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writers: Vec<_> = processes
            .iter()
            .enumerate()
            .map(|(process, db)| {
                let published = &published;
                scope.spawn(move || {
                    for round in 0..40 {
                        let events: Vec<_> =
                            (0..=round % 4).map(|n| event(&format!("{process}-{round}-{n}"))).collect();
                        let outcome = db.write("test", Lane::Front, "tester", |tx| {
                            let position = tx.publish(&events)?;
                            let row = [i64::try_from(process * 1_000 + round).unwrap().into(), position.into()];
                            tx.insert("item", ["id", "amount"], &[row], OnDuplicate::Fail)?;
                            Ok(position)
                        });
                        match outcome {
                            Ok(position) => {
                                published.fetch_add(i64::try_from(events.len()).unwrap(), Ordering::Relaxed);
                                let own = db.read(|reader| event_log::at(reader, &[position]));
                                assert!(own.is_err() || own.unwrap()[0].subject == events[0].subject);
                            }
                            // Nothing has happened, or it is not known; both are told.
                            Err(fault) => assert_eq!(fault.kind(), Kind::Unavailable, "{fault:?}"),
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                kill_sessions(first);
                std::thread::sleep(Wall::from_millis(60));
            }
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
    });
    let events = first.read(|reader| event_log::range(reader, 0, i64::MAX, &[], usize::MAX)).unwrap();
    assert!(events.iter().zip(1..).all(|(event, position)| event.position == position), "gaps");
    assert!(events.windows(2).all(|pair| pair[0].time <= pair[1].time));
    let told = published.load(Ordering::Relaxed);
    let stored = i64::try_from(events.len()).unwrap();
    // An outcome that could not be told may have happened.
    assert!(stored >= told && stored - told < 40, "{stored} stored, {told} told");
    let mut transactions: Vec<&str> = events.iter().filter_map(|event| event.subject.strip_suffix("-0")).collect();
    assert_eq!(int(first, "SELECT CAST(COUNT(*) AS BIGINT) FROM item"), i64::try_from(transactions.len()).unwrap());
    transactions.sort_unstable();
    transactions.dedup();
    assert_eq!(int(first, "SELECT CAST(COUNT(*) AS BIGINT) FROM item"), i64::try_from(transactions.len()).unwrap());
    assert!(processes.iter().any(|db| db.stats().retries.load(Ordering::Relaxed) > 0), "no session was ever hit");
}

#[test]
fn a_process_that_froze_in_a_transaction_holds_others_up_for_seconds_and_writes_nothing() {
    let processes = processes(2);
    let [frozen, other] = &processes[..] else { return };
    let mut attempts = 0;
    let outcome = frozen.write("test", Lane::Front, "tester", |tx| {
        attempts += 1;
        if attempts == 1 {
            tx.publish(&[event("frozen")])?;
            let began = std::time::Instant::now();
            // Another process takes over while this one stands still.
            assert_eq!(publish(other, &[event("other")]), 1);
            assert!(began.elapsed() < Wall::from_secs(10), "{:?}", began.elapsed());
            tx.insert("item", ["id"], &[[1.into()]], OnDuplicate::Fail)?;
            panic!("a session that was ended has written");
        }
        tx.publish(&[event("again")])
    });
    assert_eq!((outcome.unwrap(), attempts), (2, 2), "the whole work is done again, on a new session");
    let events = other.read(|reader| event_log::range(reader, 0, 10, &[], 10)).unwrap();
    assert_eq!(events.iter().map(|event| event.subject.as_str()).collect::<Vec<_>>(), ["other", "again"]);
    assert_eq!(int(other, "SELECT CAST(COUNT(*) AS BIGINT) FROM item"), 0);
}

const MORE: &[Migration] = &[Migration::new(
    1_001,
    "tests",
    "CREATE TABLE late (id {int} NOT NULL PRIMARY KEY); INSERT INTO late (id) VALUES (1); CREATE INDEX late_id ON late (id);",
)];

#[test]
fn processes_that_start_together_make_the_tables_once() {
    let processes = processes(1);
    let Some(first) = processes.first() else { return };
    let location = Location(first.place.clone().unwrap());
    std::thread::scope(|scope| {
        for number in 10..16 {
            let location = &location;
            scope.spawn(move || {
                let mut options = DbOptions { ids: IdSource::from_number(number), ..options(&clock(), None) };
                options.migrations.push(MORE);
                Db::open(location, options).unwrap();
            });
        }
    });
    assert_eq!(int(first, "SELECT CAST(COUNT(*) AS BIGINT) FROM late"), 1);
}

#[test]
fn the_head_of_others_is_seen_and_wakes_those_who_wait() {
    let processes = processes(2);
    let [one, other] = &processes[..] else { return };
    publish(one, &[event("a"), event("b")]);
    assert_eq!(other.head(), 0);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| other.wait_past(0, Duration::from_secs(60)));
        assert_eq!(other.look_at_head().unwrap(), 2);
        assert_eq!(waiter.join().unwrap(), 2);
    });
}

#[test]
fn keys_are_compared_byte_for_byte() {
    let processes = processes(1);
    let Some(db) = processes.first() else { return };
    let keys = ["a", "A", "a ", " a", "ä", "a\u{308}", "ß", "ss"];
    let rows: Vec<[Value<'_>; 3]> = keys.iter().map(|&key| [1.into(), key.into(), 7.into()]).collect();
    db.write("test", Lane::Front, "tester", |tx| tx.insert("pair", ["a", "b", "amount"], &rows, OnDuplicate::Fail))
        .unwrap();
    let sorted =
        db.read(|reader| reader.query("SELECT b FROM pair ORDER BY b", &[], |row| Ok(row.text(0)?.to_owned())));
    let mut expected = keys;
    expected.sort_unstable();
    assert_eq!(sorted.unwrap(), expected, "and sorted by their bytes, as on SQLite");
}
