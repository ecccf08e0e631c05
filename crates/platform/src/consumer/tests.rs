use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use proptest::prelude::*;

use super::*;
use crate::sql::Value;
use crate::testing::{event, event_of, in_memory, int, publish, with_hook};

const TYPE: &str = "tests.happened.v1";

/// Notes each position (twice would fail) and folds each subject's events in a way that shows their order.
fn fold(tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<()> {
    let seen: Vec<[Value<'_>; 2]> = events.iter().map(|event| ["fold".into(), event.position.into()]).collect();
    tx.insert("seen", ["consumer", "position"], &seen, OnDuplicate::Fail)?;
    let subjects: BTreeSet<&str> = events.iter().map(|event| event.subject.as_str()).collect();
    let keys: Vec<[Value<'_>; 1]> = subjects.into_iter().map(|subject| [subject.into()]).collect();
    let sql = "SELECT subject, state FROM fold WHERE subject IN (?*) ORDER BY subject";
    let found = tx.query_in(sql, &[], &keys, |row| Ok((row.text(0)?.to_owned(), row.int(1)?)))?;
    let mut states: BTreeMap<String, i64> = found.into_iter().collect();
    for event in events {
        let state = states.entry(event.subject.clone()).or_default();
        *state = state.wrapping_mul(31).wrapping_add(event.position);
    }
    let rows: Vec<[Value<'_>; 2]> = states.iter().map(|(subject, state)| [subject.into(), (*state).into()]).collect();
    tx.insert("fold", ["subject", "state"], &rows, OnDuplicate::Replace { key: &["subject"] })
}

fn runner(react: impl Fn(&mut Tx<'_>, &[EventRecord]) -> Result<()> + Send + Sync + 'static) -> Runner {
    Runner::new(Consumer { name: "fold", types: vec![TYPE], react: Box::new(react) })
}

fn run(runner: &mut Runner, db: &Db) {
    while runner.step(db).unwrap() != Step::Idle {}
}

fn state(db: &Db) -> Vec<(String, i64)> {
    let sql = "SELECT subject, state FROM fold ORDER BY subject";
    db.read(|reader| reader.query(sql, &[], |row| Ok((row.text(0)?.to_owned(), row.int(1)?)))).unwrap()
}

fn seen(db: &Db) -> Vec<i64> {
    db.read(|reader| reader.query("SELECT position FROM seen ORDER BY position", &[], |row| row.int(0))).unwrap()
}

fn letters(db: &Db) -> Vec<(DeadLetterId, i64, String)> {
    let letters = db.read(|reader| dead_letters::list(reader, None, 1_000)).unwrap();
    letters.into_iter().map(|letter| (letter.id, letter.event.position, letter.state)).collect()
}

/// Events of ten subjects, every seventh of a type that nobody handles.
fn fill(db: &Db, count: usize) {
    let events: Vec<_> = (0..count)
        .map(|n| event_of(if n % 7 == 3 { "tests.other.v1" } else { TYPE }, &format!("s{}", n * n % 10)))
        .collect();
    for chunk in events.chunks(100) {
        publish(db, chunk);
    }
}

fn expected(count: usize) -> Vec<(String, i64)> {
    let db = in_memory();
    fill(&db, count);
    let mut single = runner(fold);
    single.slice = 1;
    run(&mut single, &db);
    state(&db)
}

#[test]
fn any_slice_ends_in_the_same_state() {
    let expected = expected(1_500);
    for slice in [2, 3, 7, 100, 511, 512, 5_000] {
        let db = in_memory();
        fill(&db, 1_500);
        let mut runner = runner(fold);
        runner.slice = slice;
        run(&mut runner, &db);
        assert_eq!(state(&db), expected, "slices of {slice}");
        assert_eq!(runner.position(), 1_500);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Crashes before and after commits, restarts, any slices: every event has its effect exactly once, in order.
    #[test]
    fn effects_happen_exactly_once(slices in prop::collection::vec(1_usize..90, 1..20), crashes in prop::collection::vec(0_u8..6, 1..40)) {
        let turn = AtomicUsize::new(0);
        let db = with_hook(Arc::new(move |name, moment| {
            if name != "fold" { return Ok(()) }
            let crash = crashes.get(turn.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or_default();
            match (crash, moment) {
                (1, _) => Err(Fault::new(&problems::UNAVAILABLE, moment)),
                (2, "after_commit") => Err(Fault::internal("a lost answer")),
                _ => Ok(()),
            }
        }));
        fill(&db, 400);
        let mut current = runner(fold);
        for turn in 0.. {
            current.slice = slices[turn % slices.len()];
            match current.step(&db) {
                Ok(Step::Idle) => break,
                Ok(Step::Moved(_)) => {}
                Err(fault) => {
                    prop_assert_eq!(fault.kind(), Kind::Unavailable);
                    if turn % 2 == 0 { current = runner(fold); }
                }
            }
        }
        static EXPECTED: std::sync::OnceLock<Vec<(String, i64)>> = std::sync::OnceLock::new();
        prop_assert_eq!(&state(&db), EXPECTED.get_or_init(|| expected(400)));
        let seen = seen(&db);
        prop_assert!(seen.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(int(&db, "SELECT CAST(COUNT(*) AS BIGINT) FROM dead_letter"), 0);
    }
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_repeated_in_the_same_runner() {
    let lose = Arc::new(AtomicBool::new(true));
    let told = lose.clone();
    let db = with_hook(Arc::new(move |name, moment| {
        let lost = name == "fold" && moment == "after_commit" && told.swap(false, Ordering::Relaxed);
        if lost { Err(Fault::internal("a lost answer")) } else { Ok(()) }
    }));
    fill(&db, 20);
    let mut runner = runner(fold);
    runner.slice = 4;
    assert_eq!(runner.step(&db).unwrap_err().kind(), Kind::Unavailable, "the halves find the cursor moved");
    run(&mut runner, &db);
    assert_eq!(state(&db), expected(20));
    assert!(letters(&db).is_empty());
}

#[test]
fn two_runners_of_one_consumer_do_the_work_once() {
    let db = in_memory();
    fill(&db, 300);
    let (mut one, mut other) = (runner(fold), runner(fold));
    (one.slice, other.slice) = (10, 7);
    while one.step(&db).unwrap() != Step::Idle || other.step(&db).unwrap() != Step::Idle {}
    assert_eq!(state(&db), expected(300));
}

#[test]
fn as_many_statements_for_two_events_as_for_512() {
    let used = |count: usize| {
        let db = in_memory();
        let events: Vec<_> = (0..count).map(|n| event(&format!("s{n}"))).collect();
        let statements = || db.stats().statements.load(Ordering::Relaxed);
        let before = statements();
        publish(&db, &events);
        let published = statements() - before;
        let mut runner = runner(fold);
        runner.step(&db).unwrap();
        (published, statements() - before - published, db.stats().commits.load(Ordering::Relaxed))
    };
    assert_eq!(used(2), used(512));
}

#[test]
fn what_nobody_handles_is_passed_over_without_writing() {
    let db = in_memory();
    let others: Vec<_> = (0..WINDOW).map(|n| event_of("tests.other.v1", &format!("s{n}"))).collect();
    publish(&db, &others[..100]);
    let mut runner = runner(fold);
    let commits = || db.stats().commits.load(Ordering::Relaxed);
    let before = commits();
    assert_eq!(runner.step(&db).unwrap(), Step::Moved(100));
    assert_eq!((runner.step(&db).unwrap(), runner.position()), (Step::Idle, 100));
    assert_eq!(commits(), before);
    publish(&db, &[event("a")]);
    assert_eq!(runner.step(&db).unwrap(), Step::Moved(1));
    assert_eq!(db.read(|reader| position(reader, "fold")).unwrap(), 101);
    publish(&db, &others);
    publish(&db, &[event("b")]);
    assert_eq!(runner.step(&db).unwrap(), Step::Moved(WINDOW));
    let stored = db.read(positions).unwrap();
    assert_eq!(stored, [("fold".to_owned(), 101 + WINDOW)], "a restart never walks over more than a window or two");
    assert_eq!(runner.step(&db).unwrap(), Step::Moved(1));
    assert_eq!(seen(&db), [101, 102 + WINDOW]);
}

/// A runner that fails at `poison` (its position) as long as it is not 0.
fn poisoned(poison: &Arc<AtomicI64>, panics: bool) -> Runner {
    let poison = poison.clone();
    runner(move |tx, events| {
        fold(tx, events)?;
        let poison = poison.load(Ordering::Relaxed);
        if !events.iter().any(|event| event.position == poison) {
            return Ok(());
        }
        assert!(!panics, "cannot digest {poison}");
        Err(Fault::internal(format!("cannot digest {poison}")))
    })
}

#[test]
fn one_poisonous_event_in_512_is_found_and_others_go_on() {
    for panics in [false, true] {
        let db = in_memory();
        // The subject of position 200 comes again at 300, 400 and, later, at 513 and 514.
        let subject = |n: i64| if n % 100 == 0 && n >= 200 { "sick".to_owned() } else { format!("s{}", n % 10) };
        let events: Vec<_> = (1..=512).map(|n| event(&subject(n))).collect();
        publish(&db, &events);
        let poison = Arc::new(AtomicI64::new(200));
        let mut runner = poisoned(&poison, panics);
        run(&mut runner, &db);
        let found: Vec<(i64, String)> = letters(&db).into_iter().map(|(_, at, state)| (at, state)).collect();
        let waiting = |at: i64| (at, "waiting".to_owned());
        assert_eq!(found, [(200, "failed".to_owned()), waiting(300), waiting(400), waiting(500)]);
        assert_eq!(seen(&db), (1..=512).filter(|n| subject(*n) != "sick").collect::<Vec<_>>());
        let reason = db.read(|reader| dead_letters::list(reader, None, 1)).unwrap().remove(0).reason;
        assert!(reason.contains("cannot digest 200"), "{reason}");

        publish(&db, &[event("sick"), event("well")]);
        run(&mut runner, &db);
        assert_eq!((letters(&db).len(), seen(&db).contains(&514)), (5, true));
        assert_eq!(db.read(dead_letters::count).unwrap(), 5);

        let any = letters(&db)[2].0;
        assert!(runner.replay(&db, any).is_err(), "still poisonous");
        assert_eq!(letters(&db).len(), 5);
        poison.store(400, Ordering::Relaxed);
        assert!(runner.replay(&db, any).is_err());
        let left: Vec<(i64, String)> = letters(&db).into_iter().map(|(_, at, state)| (at, state)).collect();
        assert_eq!(left, [(400, "failed".to_owned()), waiting(500), waiting(513)], "up to the one that fails again");
        poison.store(0, Ordering::Relaxed);
        assert_eq!(runner.replay(&db, letters(&db)[0].0).unwrap(), 3);
        assert_eq!(runner.replay(&db, any).unwrap_err().code(), "dead_letter_not_found");

        let clean = in_memory();
        publish(&clean, &events);
        publish(&clean, &[event("sick"), event("well")]);
        run(&mut self::runner(fold), &clean);
        assert_eq!((state(&db), seen(&db)), (state(&clean), seen(&clean)), "as if nothing had happened");
    }
}

#[test]
fn skipping_leaves_those_behind_to_a_replay() {
    let db = in_memory();
    let poison = Arc::new(AtomicI64::new(1));
    let mut runner = poisoned(&poison, false);
    publish(&db, &[event("sick"), event("sick"), event("well")]);
    run(&mut runner, &db);
    let first = letters(&db)[0].0;
    assert_eq!(db.read(|reader| owner(reader, first)).unwrap(), "fold");
    db.write("skip", Lane::Front, "operator", |tx| skip(tx, first)).unwrap();
    let again = db.write("skip", Lane::Front, "operator", |tx| skip(tx, first));
    assert_eq!(again.unwrap_err().code(), "dead_letter_not_found");
    publish(&db, &[event("sick")]);
    run(&mut runner, &db);
    assert_eq!(seen(&db), [3]);
    assert_eq!(runner.replay(&db, letters(&db)[0].0).unwrap(), 2);
    assert_eq!(seen(&db), [2, 3, 4]);
    publish(&db, &[event("sick")]);
    run(&mut runner, &db);
    assert_eq!(seen(&db), [2, 3, 4, 5], "the subject is free again");
}

#[test]
fn a_reset_closes_the_letters_because_their_events_come_again() {
    let db = in_memory();
    let poison = Arc::new(AtomicI64::new(2));
    let mut runner = poisoned(&poison, false);
    publish(&db, &[event("a"), event("a"), event("a")]);
    run(&mut runner, &db);
    assert_eq!(letters(&db).len(), 2);
    poison.store(0, Ordering::Relaxed);
    db.write("rebuild", Lane::Front, "tester", |tx| {
        tx.execute("DELETE FROM seen", &[])?;
        tx.execute("DELETE FROM fold", &[])?;
        reset(tx, "fold")
    })
    .unwrap();
    run(&mut runner, &db);
    assert_eq!((seen(&db), letters(&db).len()), (vec![1, 2, 3], 0));
}
