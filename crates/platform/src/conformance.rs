//! What every way from an event to its effect promises, whether it is a cursor of the database, a broker or the simulator:
//! order per key, everything at least once and every effect exactly once, through crashes, poison, slowness and lost
//! connections. One set of scenarios for all of them; each way is a [`Way`]. It must not be part of the product.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kernel::{EventRecord, Fault, NewEvent, Result, problems};

use crate::consumer::{self, Consumer, Runner};
use crate::db::{Db, Lane};
use crate::tx::Tx;
use crate::{dead_letters, event_log};

/// What is sent: the numbers grow, and those of one key must have their effects in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// What orders it.
    pub key: u8,
    /// From 1; no other note has it.
    pub number: i64,
}

/// What notes do, in the transaction of their effect.
pub type Effect = Arc<dyn Fn(&mut Tx<'_>, &[Note]) -> Result<()> + Send + Sync>;

/// A way from notes to their effects, with its reader under the scenarios' control.
pub trait Way {
    /// Hands notes over for good, in order.
    fn send(&mut self, notes: &[Note]);

    /// Lets the reader do one step, and waits a moment after a fault if time is what mends it.
    fn step(&mut self) -> Result<()>;

    /// Lets the reader do one step in which its process dies around the commit of an effect, before anything is
    /// acknowledged. Another process goes on with the next step.
    fn crash(&mut self);

    /// The process of the reader ends in order; another one goes on with the next step.
    fn restart(&mut self);

    /// What the reader reads from lets go of it.
    fn lose_connection(&mut self);

    /// The reader begins again with the first note, as one that never had any effect.
    fn rewind(&mut self);

    /// The notes that were given up, with the reasons.
    fn dead(&mut self) -> Vec<(i64, String)>;

    /// Tries what was given up again, and what waits behind it; false where that is left to people.
    fn replay(&mut self) -> bool;

    /// Where the effects are.
    fn db(&self) -> &Db;
}

/// Opens a way on which nothing was ever sent, with a reader that has this effect; none when there is nothing to open it
/// on.
pub type Open<'o> = &'o dyn Fn(Effect) -> Option<Box<dyn Way>>;

/// A scenario.
pub type Scenario = fn(&mut Bench);

/// All scenarios, by name.
pub const SCENARIOS: [(&str, Scenario); 7] = [
    ("order per key", order_per_key),
    ("redelivery", redelivery),
    ("a crash between effect and acknowledgement", crashes),
    ("a poisonous message", poison),
    ("a slow consumer", slow_consumer),
    ("reconnecting", reconnecting),
    ("replay", replay),
];

/// Runs every scenario over a way of its own.
pub fn run(open: Open<'_>) {
    for (name, scenario) in SCENARIOS {
        println!("{name}");
        match Bench::open(open) {
            Some(mut bench) => scenario(&mut bench),
            None => return,
        }
    }
}

const NOTE: &str = "conformance.note.v1";
const EFFECT: &str = "conformance.effect.v1";
/// Steps until everything must have come to rest.
const MOST_STEPS: usize = 400;
/// No reader is handed more at once, so that what it keeps in memory has a limit.
const LARGEST_SLICE: usize = 512;

/// What the effect does besides its work.
#[derive(Default)]
struct Mood {
    /// It is unavailable for so many calls.
    unavailable: AtomicI64,
    /// It cannot digest this note.
    poison: AtomicI64,
    /// The most notes that it was handed at once.
    largest: AtomicUsize,
    /// The notes that it was handed, whatever became of them.
    handed: Mutex<Vec<i64>>,
}

impl Mood {
    fn have_effect(&self, tx: &mut Tx<'_>, notes: &[Note]) -> Result<()> {
        self.largest.fetch_max(notes.len(), Ordering::SeqCst);
        self.handed.lock().unwrap_or_else(PoisonError::into_inner).extend(notes.iter().map(|note| note.number));
        if self.unavailable.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Err(Fault::new(&problems::UNAVAILABLE, "not now"));
        }
        // The work is done before it fails: it must be undone.
        tx.publish(&notes.iter().map(|note| event(EFFECT, *note)).collect::<Vec<_>>())?;
        let poison = self.poison.load(Ordering::SeqCst);
        if notes.iter().any(|note| note.number == poison) {
            return Err(Fault::internal(format!("cannot digest {poison}")));
        }
        Ok(())
    }
}

fn event(event_type: &'static str, note: Note) -> NewEvent {
    NewEvent {
        event_type,
        aggregate: "note",
        subject: note.key.to_string(),
        payload: note.number.to_string(),
        causation_id: None,
        correlation_id: None,
    }
}

fn note(event: &EventRecord) -> Note {
    Note {
        key: event.subject.parse().expect("a note's subject is its key"),
        number: event.payload.parse().expect("a note's payload is its number"),
    }
}

/// Notes as events of the database's own log, for ways that read it.
pub fn publish(db: &Db, notes: &[Note]) {
    let events: Vec<NewEvent> = notes.iter().map(|note| event(NOTE, *note)).collect();
    db.write("send", Lane::Front, "tester", |tx| tx.publish(&events))
        .expect("notes are sent to a database that is well");
}

/// The name of the consumer that reads them.
pub const READER: &str = "conformance";

/// A reader of those events.
pub fn reader(effect: &Effect) -> Runner {
    let effect = Arc::clone(effect);
    let react = move |tx: &mut Tx<'_>, events: &[EventRecord]| {
        let notes: Vec<Note> = events.iter().map(note).collect();
        effect(tx, &notes)
    };
    Runner::new(Consumer { name: READER, types: vec![NOTE], react: Box::new(react) })
}

/// Sets that reader back to the first note.
pub fn rewind(db: &Db) {
    db.write("rewind", Lane::Front, "tester", |tx| consumer::reset(tx, READER)).expect("the database is well");
}

/// The dead letters of that reader.
pub fn dead(db: &Db) -> Vec<(i64, String)> {
    let letters = db.read(|reader| dead_letters::list(reader, None, 1_000)).expect("the database is well");
    let failed = letters.into_iter().filter(|letter| letter.state == "failed");
    failed.map(|letter| (note(&letter.event).number, letter.reason)).collect()
}

/// Tries the dead letters of that reader again.
pub fn replay_dead(db: &Db, runner: &Runner) {
    let letters = db.read(|reader| dead_letters::list(reader, None, 1_000)).expect("the database is well");
    if let Some(letter) = letters.first() {
        runner.replay(db, letter.id).expect("what was poison is none any more");
    }
}

/// A way with what was sent on it.
pub struct Bench {
    way: Box<dyn Way>,
    mood: Arc<Mood>,
    sent: Vec<Note>,
    /// Effects up to this position of the log were before the reader began again.
    since: i64,
}

impl Bench {
    fn open(open: Open<'_>) -> Option<Self> {
        let mood = Arc::new(Mood::default());
        let told = Arc::clone(&mood);
        let way = open(Arc::new(move |tx, notes| told.have_effect(tx, notes)))?;
        Some(Self { way, mood, sent: Vec::new(), since: 0 })
    }

    /// Sends so many notes of `keys` keys, in turn.
    fn send(&mut self, count: usize, keys: u8) {
        let first = i64::try_from(self.sent.len()).expect("few") + 1;
        let notes = (first..).take(count);
        let key = |number: i64| u8::try_from(number % i64::from(keys)).expect("a remainder of a byte");
        let notes: Vec<Note> = notes.map(|number| Note { key: key(number), number }).collect();
        self.way.send(&notes);
        self.sent.extend(notes);
    }

    fn effects(&self) -> Vec<Note> {
        let log = self.way.db().read(|reader| event_log::range(reader, self.since, i64::MAX, &[EFFECT], 100_000));
        log.expect("the database is well").iter().map(note).collect()
    }

    fn is_done(&self) -> bool {
        self.effects().len() >= self.sent.len()
    }

    /// Steps until it is as it shall be.
    fn until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..MOST_STEPS {
            if is_so(self) {
                return;
            }
            if let Err(fault) = self.way.step() {
                println!("  {fault}");
            }
        }
        panic!("{what} does not come: {} effects of {} notes", self.effects().len(), self.sent.len());
    }

    /// The order of each key is that of its notes, and no effect is there twice.
    fn in_order_and_once(&self) {
        let mut last = BTreeMap::<u8, i64>::new();
        for Note { key, number } in self.effects() {
            let before = last.insert(key, number).unwrap_or(0);
            assert!(before < number, "of key {key}, {number} had its effect after {before}");
        }
    }

    /// Runs to the end: everything has had its effect once and in order, and nothing was given up.
    fn all_is_well(&mut self) {
        self.until("the end", |bench| bench.is_done());
        // Whatever still comes has no effect.
        for _ in 0..2 {
            let _ = self.way.step();
        }
        self.in_order_and_once();
        assert_eq!(self.effects().len(), self.sent.len());
        assert_eq!(self.way.dead(), []);
        let largest = self.mood.largest.load(Ordering::SeqCst);
        assert!(largest <= LARGEST_SLICE, "{largest} notes at once");
    }
}

fn order_per_key(bench: &mut Bench) {
    for count in [1, 40, 3, 200, 17, 100, 39] {
        bench.send(count, 11);
        let _ = bench.way.step();
    }
    bench.all_is_well();
}

/// What could not be done just now comes again, in order, and is no dead letter.
fn redelivery(bench: &mut Bench) {
    bench.mood.unavailable.store(3, Ordering::SeqCst);
    bench.send(60, 7);
    bench.until("the last refusal", |bench| {
        let is_over = bench.mood.unavailable.load(Ordering::SeqCst) <= 0;
        assert!(is_over || bench.effects().is_empty(), "what failed has no effect");
        is_over
    });
    bench.send(60, 7);
    bench.all_is_well();
    let handed = bench.mood.handed.lock().unwrap_or_else(PoisonError::into_inner).len();
    assert!(handed > bench.sent.len(), "nothing came again: {handed}");
}

fn crashes(bench: &mut Bench) {
    bench.send(100, 7);
    let mut effects = 0;
    for _ in 0..12 {
        bench.way.crash();
        bench.in_order_and_once();
        let now = bench.effects().len();
        assert!(now >= effects, "an effect went away with the process");
        effects = now;
        bench.send(5, 7);
    }
    assert!(effects > 0, "no crash came after an effect");
    bench.all_is_well();
}

/// The others go on, it is given up with its reason, and nothing of its key overtakes it.
fn poison(bench: &mut Bench) {
    const POISON: i64 = 33;
    bench.mood.poison.store(POISON, Ordering::SeqCst);
    bench.send(80, 7);
    let sick = u8::try_from(POISON % 7).expect("small");
    let others = bench.sent.iter().filter(|note| note.key != sick).count();
    let of_others = |bench: &Bench| bench.effects().iter().filter(|note| note.key != sick).count();
    bench.until("the dead letter", |bench| !bench.way.dead().is_empty() && of_others(bench) == others);
    let dead = bench.way.dead();
    assert!(dead.len() == 1 && dead[0].0 == POISON && dead[0].1.contains("cannot digest 33"), "{dead:?}");
    bench.in_order_and_once();
    let before = bench.sent.iter().filter(|note| note.key == sick && note.number < POISON);
    let before: Vec<Note> = before.copied().collect();
    let effects: Vec<Note> = bench.effects().into_iter().filter(|note| note.key == sick).collect();
    assert!(effects.starts_with(&before) && effects.iter().all(|note| note.number != POISON), "{effects:?}");
    // What comes after it is handled, or waits until somebody has seen to it.
    bench.mood.poison.store(0, Ordering::SeqCst);
    if bench.way.replay() {
        bench.all_is_well();
    } else {
        bench.until("what came after it", |bench| bench.effects().len() == bench.sent.len() - 1);
        bench.in_order_and_once();
    }
}

/// Much more comes than is handled: nothing is lost, nobody who sends waits, and what is handed over at once has a limit.
fn slow_consumer(bench: &mut Bench) {
    for portion in 0..15 {
        bench.send(100, 11);
        if portion % 5 == 4 {
            let _ = bench.way.step();
        }
    }
    bench.all_is_well();
}

fn reconnecting(bench: &mut Bench) {
    for round in 0..6 {
        bench.send(50, 7);
        let _ = bench.way.step();
        bench.way.lose_connection();
        bench.send(20, 7);
        if round % 2 == 0 {
            let _ = bench.way.step();
        }
        if round % 3 == 2 {
            bench.way.restart();
        }
    }
    bench.all_is_well();
}

/// From the beginning everything has the same effects again, and what is new comes after it.
fn replay(bench: &mut Bench) {
    bench.send(150, 7);
    bench.all_is_well();
    let by_key = |effects: Vec<Note>| {
        let mut keys = BTreeMap::<u8, Vec<i64>>::new();
        effects.into_iter().for_each(|note| keys.entry(note.key).or_default().push(note.number));
        keys
    };
    let first = by_key(bench.effects());
    bench.since = bench.way.db().read(event_log::head).expect("the database is well");
    bench.way.rewind();
    bench.until("the end again", |bench| bench.is_done());
    assert_eq!(by_key(bench.effects()), first);
    bench.send(50, 7);
    bench.all_is_well();
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use kernel::Kind;

    use super::*;
    use crate::testing::with_hook;

    /// A cursor of the database.
    struct Cursor {
        db: Db,
        effect: Effect,
        runner: Runner,
        /// Where around the next commit of the reader something happens.
        at: Arc<Mutex<Option<&'static str>>>,
        has_happened: Arc<AtomicBool>,
        crashes: usize,
    }

    impl Cursor {
        fn open(effect: Effect) -> Box<dyn Way> {
            let (at, has_happened) = (Arc::new(Mutex::new(None)), Arc::new(AtomicBool::new(false)));
            let (told, happens) = (Arc::clone(&at), Arc::clone(&has_happened));
            let db = with_hook(Arc::new(move |name, moment| {
                if name == READER && told.lock().unwrap().take_if(|at| *at == moment).is_some() {
                    happens.store(true, Ordering::SeqCst);
                    return Err(Fault::new(&problems::UNAVAILABLE, "killed"));
                }
                Ok(())
            }));
            Box::new(Self { db, runner: reader(&effect), effect, at, has_happened, crashes: 0 })
        }
    }

    impl Way for Cursor {
        fn send(&mut self, notes: &[Note]) {
            publish(&self.db, notes);
        }

        fn step(&mut self) -> Result<()> {
            self.runner.slice = [512, 7, 64][self.crashes % 3];
            self.runner.step(&self.db).map(drop)
        }

        fn crash(&mut self) {
            self.crashes += 1;
            *self.at.lock().unwrap() = Some(["after_commit", "before_commit"][self.crashes % 2]);
            let fault = self.step().expect_err("there is something to do");
            assert!(self.has_happened.swap(false, Ordering::SeqCst) && fault.kind() == Kind::Unavailable, "{fault}");
            self.restart();
        }

        fn restart(&mut self) {
            self.runner = reader(&self.effect);
        }

        fn lose_connection(&mut self) {
            if self.db.is_shared() {
                crate::db::server_tests::kill_sessions(&self.db);
                // What sends is another process: it has found out.
                let _ = self.db.look_at_head();
            } else {
                *self.at.lock().unwrap() = Some("before_commit");
            }
        }

        fn rewind(&mut self) {
            rewind(&self.db);
        }

        fn dead(&mut self) -> Vec<(i64, String)> {
            dead(&self.db)
        }

        fn replay(&mut self) -> bool {
            replay_dead(&self.db, &self.runner);
            true
        }

        fn db(&self) -> &Db {
            &self.db
        }
    }

    #[test]
    fn a_cursor_of_the_database_conforms() {
        run(&|effect| Some(Cursor::open(effect)));
    }

    /// A way that forgets its place, one that is out of order and one that loses notes are found.
    #[test]
    fn ways_that_break_a_promise_are_found() {
        struct Broken(Box<dyn Way>, usize);
        impl Way for Broken {
            fn send(&mut self, notes: &[Note]) {
                let mut notes = notes.to_vec();
                match self.1 {
                    0 => notes.reverse(),
                    1 => drop(notes.pop()),
                    _ => notes.extend(notes.clone().first()),
                }
                self.0.send(&notes);
            }
            fn step(&mut self) -> Result<()> {
                self.0.step()
            }
            fn crash(&mut self) {
                self.0.crash();
            }
            fn restart(&mut self) {
                self.0.restart();
            }
            fn lose_connection(&mut self) {
                self.0.lose_connection();
            }
            fn rewind(&mut self) {
                self.0.rewind();
            }
            fn dead(&mut self) -> Vec<(i64, String)> {
                self.0.dead()
            }
            fn replay(&mut self) -> bool {
                self.0.replay()
            }
            fn db(&self) -> &Db {
                self.0.db()
            }
        }
        for planted in 0..3 {
            let mut bench = Bench::open(&|effect| Some(Box::new(Broken(Cursor::open(effect), planted)))).unwrap();
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| order_per_key(&mut bench)));
            assert!(outcome.is_err(), "planted {planted} is not found");
        }
    }
}
