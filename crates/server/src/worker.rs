//! The worker: everything that happens after a fact is recorded, a step at a time. It neither waits nor sleeps: the
//! serving loop, the demo, the tests and the simulator call it at their own pace.

use std::sync::Arc;

use kernel::{Fault, Result};
use payments::PaymentGateway;
use platform::lease::Fence;
use platform::{Db, Lane, Runner, Step, Tx, consumer, idempotency, inbox, seal};

use crate::wiring::{Settings, consumers};

/// Commissions whose hold ended, per transaction.
const HOLDS_AT_ONCE: i64 = 1_024;
/// Parked events that one sweep tries again.
const SWEEP_EVERY_TENDS: u64 = 600;

/// Larger slices write each page of an index less often; nobody waits for the writer meanwhile.
const SLICE_WITH_NOBODY_WAITING: usize = 2_048;

/// Drives the consumers and the timers over one database.
pub struct Worker {
    runners: Vec<Runner>,
    gateway: Arc<dyn PaymentGateway>,
    settings: Settings,
    tends: u64,
    /// On a shared database a consumer runs, and time is looked at, only where the lease is.
    leased: bool,
    tends_timers: bool,
}

/// The name of the lease on everything that time brings.
pub(crate) const TIMERS: &str = "timers";

fn running(runners: &mut [Runner], leased: bool) -> impl Iterator<Item = &mut Runner> {
    runners.iter_mut().filter(move |runner| !leased || runner.fence.is_some())
}

impl Worker {
    /// A worker with every consumer.
    pub fn new(settings: Settings, gateway: Arc<dyn PaymentGateway>) -> Self {
        let runners = consumers(settings).into_iter().map(Runner::new).collect();
        Self { runners, gateway, settings, tends: 0, leased: false, tends_timers: true }
    }

    /// From now on only what it holds a lease on is done.
    pub(crate) fn hold(&mut self, held: &[Fence]) {
        self.leased = true;
        self.tends_timers = held.iter().any(|fence| fence.name == TIMERS);
        for runner in &mut self.runners {
            runner.fence = held.iter().find(|fence| fence.name == runner.name()).cloned();
        }
    }

    /// Stores how far the consumers have come that it runs.
    pub(crate) fn note(&mut self, tx: &mut Tx<'_>) -> Result<()> {
        consumer::note(tx, self.runners.iter_mut().filter(|runner| runner.fence.is_some()))
    }

    /// The consumers, to step one at a time or to choose their slices.
    pub fn runners(&mut self) -> &mut [Runner] {
        &mut self.runners
    }

    /// How far each consumer has come that runs here.
    pub fn positions(&self) -> Vec<(&'static str, i64)> {
        let running = self.runners.iter().filter(|runner| !self.leased || runner.fence.is_some());
        running.map(|runner| (runner.name(), runner.position())).collect()
    }

    /// Lets every consumer handle one slice; answers whether any had something to do.
    pub fn react(&mut self, db: &Db) -> Result<bool> {
        let mut moved = false;
        for runner in running(&mut self.runners, self.leased) {
            moved |= runner.step(db)? != Step::Idle;
        }
        Ok(moved)
    }

    /// Like `react`, and adapts each consumer's slice so that its transaction takes about `aim` while somebody waits for
    /// the writer; with nobody waiting, slices grow to their largest.
    #[expect(clippy::disallowed_methods, reason = "measures how long a slice takes")]
    pub fn react_within(&mut self, db: &Db, aim: std::time::Duration) -> Result<bool> {
        let mut moved = false;
        for runner in running(&mut self.runners, self.leased) {
            let began = std::time::Instant::now();
            moved |= runner.step(db)? != Step::Idle;
            if began.elapsed() > aim && db.is_front_waiting() {
                runner.slice = (runner.slice / 2).max(32);
            } else {
                runner.slice = (runner.slice * 2).min(SLICE_WITH_NOBODY_WAITING);
            }
        }
        Ok(moved)
    }

    /// What time brings: ended holds, payouts, the seal, roll-ups, the sweep. Answers whether there was anything.
    pub fn tend(&mut self, db: &Db) -> Result<bool> {
        if !self.tends_timers {
            return Ok(false);
        }
        let ended = self.end_holds(db)?;
        let paid = self.pay(db)?;
        let sealed = self.seal(db)?;
        let rolled = self.roll_up(db)?;
        if self.tends.is_multiple_of(SWEEP_EVERY_TENDS) {
            self.sweep(db)?;
        }
        self.tends += 1;
        Ok(ended > 0 || paid > 0 || sealed > 0 || rolled)
    }

    /// Ends due holds; answers how many.
    pub fn end_holds(&self, db: &Db) -> Result<usize> {
        db.write("holds", Lane::Back, "system", |tx| commissions::end_holds(tx, HOLDS_AT_ONCE))
    }

    /// Talks to the gateway about submitted payouts; answers how many items it talked about.
    pub fn pay(&self, db: &Db) -> Result<usize> {
        payments::step(db, self.gateway.as_ref())
    }

    /// Seals the next block of events; answers how many it covers.
    pub fn seal(&self, db: &Db) -> Result<usize> {
        seal::step(db)
    }

    /// Rolls the ledger up, if it is due.
    pub fn roll_up(&self, db: &Db) -> Result<bool> {
        db.write("roll_up", Lane::Back, "system", ledger::roll_up)
    }

    /// Tries parked facts again and forgets old idempotency keys.
    pub fn sweep(&self, db: &Db) -> Result<usize> {
        let settings = self.settings.conversions;
        db.write("sweep", Lane::Back, "system", |tx| {
            let limit = tx.now().minus(kernel::Duration::from_secs(u64::from(idempotency::KEPT_DAYS) * 86_400));
            idempotency::forget_before(tx, limit)?;
            inbox::forget_before(
                tx,
                tx.now().minus(kernel::Duration::from_secs(u64::from(inbox::KEPT_DAYS) * 86_400)),
            )?;
            conversions::sweep(tx, settings)
        })
    }

    /// Steps until nothing is left to do now.
    pub fn run_until_idle(&mut self, db: &Db) -> Result<()> {
        loop {
            let reacted = self.react(db)?;
            if !reacted && !self.tend(db)? {
                return Ok(());
            }
        }
    }

    /// Tries a dead letter and those behind it again. Faults: `dead_letter_not_found`, and that of the failing letter.
    pub fn replay(&self, db: &Db, id: kernel::DeadLetterId) -> Result<usize> {
        let owner = db.read(|reader| consumer::owner(reader, id))?;
        let runner = self.runners.iter().find(|runner| runner.name() == owner);
        runner.ok_or_else(|| Fault::internal(format!("there is no consumer {owner}")))?.replay(db, id)
    }
}
