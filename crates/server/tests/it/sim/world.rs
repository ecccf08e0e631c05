//! The simulated world: the product's own code over a database in memory, a clock that stands until it is moved, seeded
//! ids, a bank, and crashes. One thread; whatever happens next is drawn from one seeded source.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use conversions::{CustomerKeys, Receipt};
use kernel::{Clock, Fault, IdSource, Kind, ManualClock};
use platform::{Db, Lane, Tx, idempotency};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use server::Worker;
use server::wiring::{self, Settings};

use super::bank::Bank;
use super::crash::{Crashes, End};
use super::plan::{Plan, START};
use super::told::{Names, at};

/// What was broken, beginning with `invariant` or `mismatch`; ends the run of a seed.
pub(super) type Verdict<T = ()> = Result<T, String>;

/// What was simulated.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) facts: u64,
    pub(super) deliveries: u64,
    pub(super) repeats: u64,
    pub(super) refused: u64,
    pub(super) commands: u64,
    pub(super) steps: u64,
    pub(super) crashes: u64,
    pub(super) payments: u64,
    pub(super) events: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.facts += other.facts;
        self.deliveries += other.deliveries;
        self.repeats += other.repeats;
        self.refused += other.refused;
        self.commands += other.commands;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.payments += other.payments;
        self.events += other.events;
    }
}

pub(super) struct Sim {
    pub(super) plan: Plan,
    pub(super) rng: StdRng,
    pub(super) db: Db,
    pub(super) bank: Arc<Bank>,
    pub(super) names: Names,
    /// By the fact's place in the plan.
    pub(super) bodies: Vec<Value>,
    pub(super) receipts: BTreeMap<usize, Receipt>,
    pub(super) refused: BTreeSet<usize>,
    /// Facts in deliveries that crashed: they may have been recorded.
    pub(super) in_doubt: BTreeSet<usize>,
    pub(super) tally: Tally,
    pub(super) keys: CustomerKeys,
    worker: Worker,
    pub(super) settings: Settings,
    clock: Arc<ManualClock>,
    crashes: Arc<Crashes>,
    /// Whether crashes are drawn now.
    pub(super) is_stormy: bool,
    commands: u64,
}

impl Sim {
    /// A world before its first command. `order` decides everything that the plan does not: the order of deliveries,
    /// slices, crashes.
    pub(super) fn new(plan: Plan, order: u64) -> Self {
        let clock = Arc::new(ManualClock::at(at(START)));
        let crashes = Crashes::none();
        let options = wiring::options(clock.clone(), IdSource::from_number(order), Some(crashes.hook()));
        let db = Db::in_memory(options).expect("a database in memory opens");
        let mut settings = Settings::default();
        if plan.provision {
            settings.conversions.unknown_reference = conversions::UnknownReference::Provision;
        }
        settings.payments.approval_limit_minor = 200;
        let bank = Arc::new(Bank::new(order));
        let keys = CustomerKeys::load_or_create(&db).expect("the salt is stored");
        Self {
            worker: Worker::new(settings, bank.clone()),
            rng: StdRng::seed_from_u64(order.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5157),
            names: Names::default(),
            bodies: Vec::new(),
            receipts: BTreeMap::new(),
            refused: BTreeSet::new(),
            in_doubt: BTreeSet::new(),
            tally: Tally::default(),
            is_stormy: false,
            commands: 0,
            plan,
            db,
            bank,
            keys,
            settings,
            clock,
            crashes,
        }
    }

    pub(super) fn now(&self) -> i64 {
        self.clock.now().as_micros()
    }

    /// Moves the clock, never back.
    pub(super) fn advance_to(&mut self, micros: i64) {
        let later = micros.max(self.now());
        self.clock.set(at(later));
    }

    /// Does a piece of work in which the process may crash or the database refuse; none when it did.
    pub(super) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> kernel::Result<T>,
    ) -> Option<kernel::Result<T>> {
        if self.is_stormy && self.rng.random_ratio(1, 10) {
            let (moments, refuses) = (self.rng.random_range(0..4), self.rng.random_ratio(1, 4));
            self.crashes.arm(moments, refuses);
        }
        let end = Crashes::survive(|| work(self));
        self.crashes.disarm();
        match end {
            End::Crashed => {
                self.tally.crashes += 1;
                self.restart();
                None
            }
            End::Done(Err(fault)) if Crashes::is_planned(&fault) => {
                self.tally.crashes += 1;
                None
            }
            // What is not available just now is tried again, as the product's loops do.
            End::Done(Err(fault)) if fault.kind() == Kind::Unavailable => None,
            End::Done(answer) => Some(answer),
        }
    }

    /// Everything that a process holds in memory is built again. The database object stays: it is the disk.
    fn restart(&mut self) {
        self.worker = Worker::new(self.settings, self.bank.clone());
        self.bank.tells_again();
        self.keys = CustomerKeys::load_or_create(&self.db).expect("the salt is there");
    }

    /// A command, repeated until it is known what became of it; the idempotency key makes it happen once.
    pub(super) fn command(
        &mut self,
        actor: &'static str,
        work: impl Fn(&mut Tx<'_>) -> kernel::Result<String>,
    ) -> Result<String, Fault> {
        self.commands += 1;
        self.tally.commands += 1;
        let key = format!("command-{}", self.commands);
        loop {
            let key = idempotency::IdempotencyKey { key: key.clone(), request_digest: [7; 16] };
            let answer = self.attempt(|sim| {
                sim.db.write("command", Lane::Front, actor, |tx| {
                    if let Some(reply) = idempotency::find(tx, actor, &key)? {
                        return Ok(reply.body);
                    }
                    let body = work(tx)?;
                    idempotency::store(tx, &key, &idempotency::Reply { status: 200, body: body.clone() })?;
                    Ok(body)
                })
            });
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    /// One consumer handles one slice.
    pub(super) fn step_one(&mut self) -> Verdict {
        self.tally.steps += 1;
        let (which, slice) = (self.rng.random_range(0..self.worker.runners().len()), self.rng.random_range(1..=64));
        let stepped = self.attempt(|sim| {
            let runner = &mut sim.worker.runners()[which];
            runner.slice = slice;
            runner.step(&sim.db)
        });
        never_fails("a consumer's step", stepped)
    }

    /// One of the things that time brings.
    pub(super) fn tend_one(&mut self) -> Verdict {
        self.tally.steps += 1;
        let which = self.rng.random_range(0..6);
        let done = self.attempt(|sim| match which {
            0 | 1 => sim.worker.end_holds(&sim.db).map(|_| ()),
            2 => sim.worker.pay(&sim.db).map(|_| ()),
            3 => sim.worker.seal(&sim.db).map(|_| ()),
            4 => sim.worker.roll_up(&sim.db).map(|_| ()),
            _ => sim.worker.sweep(&sim.db).map(|_| ()),
        });
        never_fails("a timer's step", done)
    }

    /// The bank is spoken to.
    pub(super) fn pay_one(&mut self) -> Verdict {
        self.tally.steps += 1;
        let paid = self.attempt(|sim| sim.worker.pay(&sim.db));
        never_fails("talking to the bank", paid)
    }

    /// Steps until nothing is left to do now. Crashes may come meanwhile, but it ends.
    pub(super) fn settle(&mut self) -> Verdict {
        for _ in 0..10_000 {
            let slice = self.rng.random_range(1..=64);
            let moved = self.attempt(|sim| {
                sim.worker.runners().iter_mut().for_each(|runner| runner.slice = slice);
                Ok(sim.worker.react(&sim.db)? || sim.worker.tend(&sim.db)?)
            });
            match moved {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) => return Ok(()),
                Some(Err(fault)) => return never_fails("a step to rest", Some(Err::<(), _>(fault))),
            }
        }
        Err("invariant: the world never comes to rest".to_owned())
    }

    /// The consumers catch up, in random slices; timers stand still.
    pub(super) fn catch_up(&mut self) -> Verdict {
        for _ in 0..10_000 {
            let slice = self.rng.random_range(1..=64);
            let moved = self.attempt(|sim| {
                sim.worker.runners().iter_mut().for_each(|runner| runner.slice = slice);
                sim.worker.react(&sim.db)
            });
            match moved {
                None | Some(Ok(true)) => {}
                Some(Ok(false)) => return Ok(()),
                Some(Err(fault)) => return never_fails("catching up", Some(Err::<(), _>(fault))),
            }
        }
        Err("invariant: the consumers never catch up".to_owned())
    }

    pub(super) fn sweep(&mut self) -> Verdict {
        let swept = self.attempt(|sim| sim.worker.sweep(&sim.db));
        never_fails("a sweep", swept)
    }
}

fn never_fails<T>(what: &str, answer: Option<kernel::Result<T>>) -> Verdict {
    match answer {
        Some(Err(fault)) => Err(format!("invariant: {what} failed: {fault}")),
        _ => Ok(()),
    }
}

/// A command may be refused, but never because of a defect.
pub(super) fn refused_or_done(what: &str, answer: Result<String, Fault>) -> Verdict<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(fault) if matches!(fault.kind(), Kind::Internal | Kind::Unavailable) => {
            Err(format!("invariant: {what} failed: {fault}"))
        }
        Err(_) => Ok(false),
    }
}
