//! The scenarios of `platform::conformance` in the simulated world: one thread, drawn slices, crashes that unwind around
//! commits, refusals of the database.

use std::sync::Arc;

use kernel::{IdSource, ManualClock, Result};
use platform::conformance::{self, Effect, Note, Way};
use platform::{Db, Runner};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use server::wiring;

use super::crash::{Crashes, End};
use super::plan::START;
use super::told::at;

struct Simulated {
    db: Db,
    crashes: Arc<Crashes>,
    /// The next step is refused by the database.
    is_refused: bool,
    effect: Effect,
    runner: Runner,
    rng: StdRng,
}

impl Simulated {
    fn open(seed: u64, effect: Effect) -> Box<dyn Way> {
        let crashes = Crashes::none();
        let clock = Arc::new(ManualClock::at(at(START)));
        let options = wiring::options(clock, IdSource::from_number(seed), Some(crashes.hook()));
        let db = Db::in_memory(options).expect("a database in memory opens");
        let (runner, rng) = (conformance::reader(&effect), StdRng::seed_from_u64(seed));
        Box::new(Self { db, crashes, is_refused: false, effect, runner, rng })
    }

    /// One step; answers nothing when the process ended in it.
    fn attempt(&mut self) -> Option<Result<()>> {
        self.runner.slice = self.rng.random_range(1..=64);
        let end = Crashes::survive(|| self.runner.step(&self.db));
        self.crashes.disarm();
        match end {
            End::Done(outcome) => Some(outcome.map(drop)),
            End::Crashed => {
                self.restart();
                None
            }
        }
    }
}

impl Way for Simulated {
    fn send(&mut self, notes: &[Note]) {
        conformance::publish(&self.db, notes);
    }

    fn step(&mut self) -> Result<()> {
        if std::mem::take(&mut self.is_refused) {
            self.crashes.arm(0, true);
        }
        self.attempt().expect("no crash is planned")
    }

    fn crash(&mut self) {
        self.crashes.arm(self.rng.random_range(0..2), false);
        assert!(self.attempt().is_none(), "the process lives on");
    }

    fn restart(&mut self) {
        self.runner = conformance::reader(&self.effect);
    }

    fn lose_connection(&mut self) {
        self.is_refused = true;
    }

    fn rewind(&mut self) {
        conformance::rewind(&self.db);
    }

    fn dead(&mut self) -> Vec<(i64, String)> {
        conformance::dead(&self.db)
    }

    fn replay(&mut self) -> bool {
        conformance::replay_dead(&self.db, &self.runner);
        true
    }

    fn db(&self) -> &Db {
        &self.db
    }
}

#[test]
fn the_simulator_conforms() {
    for seed in 0..20 {
        println!("seed {seed}");
        conformance::run(&|effect| Some(Simulated::open(seed, effect)));
    }
}
