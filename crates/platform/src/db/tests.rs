use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicUsize;

use kernel::ManualClock;

use super::*;
use crate::event_log;
use crate::sql::OnDuplicate;
use crate::testing::{Directory, START, clock, event, in_memory, int, options, publish, with_hook};

fn put(tx: &mut Tx<'_>, id: i64) -> Result<()> {
    tx.insert("item", ["id"], &[[id.into()]], OnDuplicate::Fail)
}

fn items(db: &Db) -> i64 {
    int(db, "SELECT CAST(COUNT(*) AS BIGINT) FROM item")
}

#[test]
fn a_commit_is_visible_to_readers_and_after_a_restart() {
    let directory = Directory::new();
    let db = directory.open();
    db.write("test", Lane::Front, "tester", |tx| {
        put(tx, 1)?;
        assert_eq!(items(&db), 0, "nothing is visible before the commit");
        tx.publish(&[event("a")])
    })
    .unwrap();
    assert_eq!((items(&db), db.head()), (1, 1));
    drop(db);
    let db = directory.open();
    assert_eq!((items(&db), db.head()), (1, 1));
}

#[test]
fn an_error_and_a_panic_roll_back_and_the_writer_goes_on() {
    let directory = Directory::new();
    for db in [in_memory(), directory.open()] {
        let refused = db.write("test", Lane::Front, "tester", |tx| {
            put(tx, 1)?;
            tx.publish(&[event("a")])?;
            Err::<(), _>(Fault::new(&problems::STALE, "no"))
        });
        assert_eq!(refused.unwrap_err().code(), "stale");
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            db.write("test", Lane::Front, "tester", |tx| -> Result<()> {
                put(tx, 1)?;
                tx.publish(&[event("a")])?;
                panic!("in the middle")
            })
        }));
        assert!(panicked.is_err());
        assert_eq!((items(&db), db.head()), (0, 0));
        assert_eq!(publish(&db, &[event("b")]), 1, "no position is lost");
        assert_eq!(db.stats().rollbacks.load(Ordering::Relaxed), 2);
    }
}

#[test]
fn a_panic_while_reading_leaves_no_open_snapshot_behind() {
    let directory = Directory::new();
    let db = directory.open();
    for round in 1..=24 {
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            db.read(|reader| -> Result<()> {
                event_log::head(reader)?;
                panic!("in the middle")
            })
        }));
        assert!(panicked.is_err());
        publish(&db, &[event("a")]);
        assert_eq!(db.read(event_log::head).unwrap(), round, "an old snapshot is still open");
    }
}

#[test]
fn a_failed_write_cannot_be_passed_over() {
    let db = in_memory();
    let outcome = db.write("test", Lane::Front, "tester", |tx| {
        put(tx, 1)?;
        let _ = put(tx, 1);
        Ok(())
    });
    assert_eq!(outcome.unwrap_err().code(), "internal");
    assert_eq!(items(&db), 0);
}

#[test]
fn a_full_disk_is_told_and_nothing_is_changed() {
    let directory = Directory::new();
    let db = directory.open();
    publish(&db, &[event("a")]);
    let limit = |pages: i64| {
        let queue = guard(&db.queue);
        let Some(Connection::Sqlite(writer)) = &queue.writer else { panic!("the writer is away") };
        writer.0.pragma_update(None, "max_page_count", pages).unwrap();
    };
    limit(1); // SQLite takes the present size instead.
    let note = "x".repeat(1_000_000);
    let fill = |tx: &mut Tx<'_>| {
        put(tx, 1)?;
        tx.insert("item", ["id", "name"], &[[2.into(), (&note).into()]], OnDuplicate::Fail)
    };
    assert_eq!(db.write("test", Lane::Front, "tester", fill).unwrap_err().code(), "storage_full");
    // Whoever passes over the fault must not commit the rest row by row.
    let passed_over = db.write("test", Lane::Front, "tester", |tx| {
        let _ = fill(tx);
        let _ = put(tx, 3);
        Ok(())
    });
    assert!(passed_over.is_err());
    assert_eq!(items(&db), 0, "reads go on");
    assert!(!db.is_stopped());
    limit(1_000_000);
    db.write("test", Lane::Front, "tester", fill).unwrap();
    assert_eq!(items(&db), 2);
}

#[test]
fn now_never_goes_back() {
    let directory = Directory::new();
    let clock = clock();
    let db = Db::open(&directory.location(), options(&clock, None)).unwrap();
    let now = |db: &Db| {
        db.write("test", Lane::Front, "tester", |tx| {
            tx.publish(&[event("a")])?;
            Ok(tx.now())
        })
        .unwrap()
    };
    let later = START.plus_days(1);
    assert_eq!(now(&db), START);
    clock.set(later);
    assert_eq!(now(&db), later);
    clock.set(START);
    assert_eq!((now(&db), db.now()), (later, later));
    drop(db);
    let db = Db::open(&directory.location(), options(&clock, None)).unwrap();
    assert_eq!(now(&db), later, "also after a restart");
    clock.set(later.plus_days(1));
    assert_eq!(now(&db), later.plus_days(1));
}

#[test]
fn positions_have_no_gaps_whoever_writes_and_fails() {
    let directory = Directory::new();
    let clock = clock();
    let db = Db::open(&directory.location(), options(&clock, None)).unwrap();
    let published = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (db, clock, published) = (&db, &clock, &published);
            scope.spawn(move || {
                for round in 0..40 {
                    let lane = if thread % 2 == 0 { Lane::Front } else { Lane::Back };
                    let events: Vec<_> = (0..=round % 4).map(|n| event(&format!("{thread}-{round}-{n}"))).collect();
                    clock.set(START.plus(Duration::from_micros(1_000 - 7 * round)));
                    let outcome = db.write("test", lane, "tester", |tx| {
                        let first = tx.publish(&events)?;
                        if (thread + round) % 3 == 0 { Err(Fault::new(&problems::STALE, "no")) } else { Ok(first) }
                    });
                    if let Ok(first) = outcome {
                        published.fetch_add(events.len(), Ordering::Relaxed);
                        let own = db.read(|reader| event_log::range(reader, first - 1, first, &[], 1)).unwrap();
                        assert_eq!(own[0].subject, events[0].subject, "its own event at its position, at once");
                    }
                }
            });
        }
    });
    let events = db.read(|reader| event_log::range(reader, 0, i64::MAX, &[], usize::MAX)).unwrap();
    assert_eq!(events.len(), published.load(Ordering::Relaxed));
    assert!(events.iter().zip(1..).all(|(event, position)| event.position == position));
    assert!(events.windows(2).all(|pair| pair[0].time <= pair[1].time && pair[0].id < pair[1].id));
    assert_eq!(db.head(), events.last().map_or(0, |event| event.position));
}

#[test]
fn a_second_process_is_refused() {
    let directory = Directory::new();
    let first = directory.open();
    let refused = Db::open(&directory.location(), options(&clock(), None)).map(|_| ()).unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("data_directory_in_use", Kind::Unavailable));
    assert!(refused.detail().contains("--data"), "{}", refused.detail());
    publish(&first, &[event("a")]);
    let beside = Db::open_beside(&directory.location(), options(&clock(), None)).unwrap();
    assert_eq!(beside.read(event_log::head).unwrap(), 1);
    drop((first, beside));
    assert_eq!(directory.open().head(), 1);
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::thread::yield_now();
    }
}

#[test]
fn the_front_lane_goes_first_and_the_back_lane_does_not_starve() {
    let db = in_memory();
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let note = |lane| {
            let (db, order) = (&db, &order);
            move || {
                db.write("test", lane, "tester", |_| {
                    guard(order).push(lane);
                    Ok(())
                })
                .unwrap();
            }
        };
        db.write("test", Lane::Front, "tester", |_| {
            scope.spawn(note(Lane::Back));
            scope.spawn(note(Lane::Back));
            wait_until(|| guard(&db.queue).waiting_back == 2);
            (0..10).for_each(|_| drop(scope.spawn(note(Lane::Front))));
            wait_until(|| guard(&db.queue).waiting_front == 10);
            assert!(db.is_front_waiting());
            Ok(())
        })
        .unwrap();
    });
    let backs: Vec<usize> = (0..12).filter(|&turn| guard(&order)[turn] == Lane::Back).collect();
    assert_eq!(backs, [4, 9], "{:?}", guard(&order));
}

#[test]
fn more_readers_than_connections_take_turns() {
    let directory = Directory::new();
    let db = directory.open();
    let together = AtomicUsize::new(0);
    let most = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 * READERS {
            scope.spawn(|| {
                for _ in 0..20 {
                    db.read(|reader| {
                        most.fetch_max(together.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        event_log::head(reader)?;
                        together.fetch_sub(1, Ordering::SeqCst);
                        Ok(())
                    })
                    .unwrap();
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= READERS);
    let pool = guard(&db.pool);
    assert!(pool.open <= READERS && pool.idle.len() == pool.open);
}

#[test]
fn a_reader_that_cannot_be_opened_takes_no_place_in_the_pool() {
    let directory = Directory::new();
    let db = directory.open();
    let away = directory.0.with_extension("away");
    std::fs::rename(&directory.0, &away).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 * READERS {
            scope.spawn(|| assert_eq!(db.read(event_log::head).unwrap_err().code(), "unavailable"));
        }
    });
    std::fs::rename(&away, &directory.0).unwrap();
    assert_eq!(db.read(event_log::head).unwrap(), 0);
    assert_eq!(guard(&db.pool).open, 1);
}

#[test]
fn after_a_failed_sync_nothing_is_written_not_even_by_those_who_wait() {
    let directory = Directory::new();
    let db = directory.open();
    std::thread::scope(|scope| {
        db.write("test", Lane::Front, "tester", |tx| {
            scope.spawn(|| {
                let late = db.write("test", Lane::Front, "tester", |tx| put(tx, 2));
                assert_eq!(late.unwrap_err().code(), "writes_stopped");
            });
            wait_until(|| guard(&db.queue).waiting_front == 1);
            put(tx, 1)?;
            db.stop();
            Ok(())
        })
        .unwrap();
    });
    assert_eq!(db.write("test", Lane::Back, "tester", |tx| put(tx, 3)).unwrap_err().code(), "writes_stopped");
    assert_eq!(db.checkpoint().unwrap_err().code(), "writes_stopped");
    assert_eq!(items(&db), 1, "reads go on");
}

#[test]
fn a_hook_that_fails_before_the_commit_rolls_back_and_after_it_does_not() {
    let failing: Arc<Mutex<&str>> = Arc::new(Mutex::new(""));
    let told = failing.clone();
    let db = with_hook(Arc::new(move |name, moment| {
        assert_eq!(name, "test");
        if *guard(&told) == moment { Err(Fault::new(&problems::UNAVAILABLE, moment)) } else { Ok(()) }
    }));
    let write = |id| {
        db.write("test", Lane::Front, "tester", |tx| {
            put(tx, id)?;
            tx.publish(&[event("a")])
        })
    };
    *guard(&failing) = "before_commit";
    assert_eq!(write(1).unwrap_err().detail(), "before_commit");
    assert_eq!((items(&db), db.head()), (0, 0));
    *guard(&failing) = "after_commit";
    assert_eq!(write(1).unwrap_err().detail(), "after_commit");
    assert_eq!((items(&db), db.head()), (1, 1));
}

#[test]
fn only_transactions_that_change_something_count_as_commits() {
    let db = in_memory();
    db.write("test", Lane::Front, "tester", |tx| tx.execute("DELETE FROM item WHERE id = ?", &[1.into()])).unwrap();
    db.write("test", Lane::Front, "tester", |_| Ok(())).unwrap();
    assert_eq!(db.stats().commits.load(Ordering::Relaxed), 0);
    db.write("test", Lane::Front, "tester", |tx| put(tx, 1)).unwrap();
    assert_eq!(db.stats().commits.load(Ordering::Relaxed), 1);
}

#[test]
fn whoever_waits_for_the_head_is_woken() {
    let db = in_memory();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| db.wait_past(1, Duration::from_secs(60)));
        publish(&db, &[event("a")]);
        publish(&db, &[event("b")]);
        assert_eq!(waiter.join().unwrap(), 2);
    });
    assert_eq!(db.wait_past(2, Duration::from_millis(1)), 2, "the time is up");
}

#[test]
fn a_checkpoint_moves_the_log_into_the_file_beside_a_long_read() {
    let directory = Directory::new();
    let db = directory.open();
    let size = || std::fs::metadata(directory.0.join("alpes.db")).unwrap().len();
    let fill = |subject: &str| {
        let events: Vec<_> = (0..2_000).map(|n| event(&format!("{subject}-{n}"))).collect();
        publish(&db, &events);
    };
    let empty = size();
    fill("a");
    db.checkpoint().unwrap();
    let full = size();
    assert!(full > empty + 100_000, "{empty} {full}");
    db.read(|reader| {
        assert_eq!(event_log::head(reader)?, 2_000);
        fill("b");
        db.checkpoint()?;
        assert_eq!(event_log::head(reader)?, 2_000, "the snapshot stands");
        Ok(())
    })
    .unwrap();
    db.checkpoint().unwrap();
    assert!(size() > full + 100_000);
    assert!(db.size_bytes() > size());
}

#[test]
fn ids_and_random_bytes_come_from_the_injected_source() {
    let make = || {
        let db = Db::in_memory(options(&Arc::new(ManualClock::at(START)), None)).unwrap();
        let id: kernel::PartnerId = db.new_id();
        (id, db.random::<8>())
    };
    assert_eq!(make(), make());
}
