//! `alpes demo`: the main job on a real purchase log, through the same intake as everybody's, with a clock that the demo
//! moves. Every step asks first whether it is done, so a second run adds nothing.

mod deliver;
mod log;
mod pay;
mod plan;
mod report;
mod setup;

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use conversions::CustomerKeys;
use kernel::{Clock, Timestamp};
use platform::{Db, Location};

use crate::cli::{Common, Listen};
use crate::clock::{DemoClock, real_ids};
use crate::duties::Role;
use crate::serve::{Load, Service};
use crate::wiring::{self, Settings};
use crate::worker::Worker;
use crate::{output, verify};

/// What `demo` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    listen: Listen,
    /// Stop after the figures instead of serving the API
    #[arg(long)]
    exit: bool,
}

/// Facts that may wait for the committer.
const QUEUE: usize = 8_192;

/// Runs the demo; answers whether `verify` found everything well.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<bool> {
    let demo = Demo::open(&common.location()?)?;
    let before = demo.db.head();
    let outcome = demo.play(common.json)?;
    let added = demo.db.head() - before;
    let checks = demo.db.read(verify::checks)?;
    let well = checks.iter().all(|check| check.differences.is_empty());
    let figures = report::figures(&demo.db, &outcome, &checks, added)?;
    if common.json {
        output::json(&figures)?;
    } else {
        report::print(&figures, &outcome, &checks, common, arguments.listen.address())?;
    }
    if arguments.exit || !well {
        return Ok(well);
    }
    demo.serve(arguments)?;
    Ok(true)
}

/// Everything but relays, in one process.
fn load() -> Load {
    Load {
        intake_queue: QUEUE,
        batch: web::LARGEST_BATCH,
        roles: vec![Role::Api, Role::Reactors, Role::Timers],
        relays: Vec::new(),
        lookout: None,
        commands: None,
    }
}

struct Demo {
    db: Arc<Db>,
    clock: Arc<DemoClock>,
    keys: CustomerKeys,
}

/// What happened on the way, for the report.
struct Outcome {
    world: setup::World,
    delivery: deliver::Delivery,
    /// The database's size once everything was approved, before any payout.
    approved_bytes: u64,
    payouts: pay::Payouts,
}

impl Demo {
    fn open(location: &Location) -> anyhow::Result<Self> {
        let clock = Arc::new(DemoClock::at(instant("1998-07-15T00:00:00Z")));
        let time: Arc<dyn Clock> = clock.clone();
        let db = Arc::new(Db::open(location, wiring::options(time, real_ids(), None))?);
        let keys = CustomerKeys::load_or_create(&db)?;
        Ok(Self { db, clock, keys })
    }

    /// Set-up, delivery, approvals, payout, chargebacks, dry run.
    fn play(&self, quiet: bool) -> anyhow::Result<Outcome> {
        let world = setup::run(&self.db)?;
        let log = log::read()?;
        let gateway = Arc::new(pay::gateway(&world));
        let settings = Settings::default();
        let service = Service::start(self.db.clone(), settings, Worker::new(settings, gateway.clone()), load())?;
        let delivery = deliver::run(&service, &self.db, &self.keys, &world, &log, quiet)?;
        deliver::wait_until_decided(&service, &self.db);
        service.stop();

        let mut worker = Worker::new(settings, gateway);
        worker.run_until_idle(&self.db)?;
        self.clock.set(instant("1998-09-15T00:00:00Z"));
        worker.run_until_idle(&self.db)?;
        pay::approve_queue(&self.db)?;
        worker.run_until_idle(&self.db)?;
        self.db.checkpoint()?;
        let approved_bytes = self.db.file_bytes();
        let first = pay::first_payout(&self.db, &mut worker)?;
        deliver::charge_back(&self.db, &self.keys, &log)?;
        worker.run_until_idle(&self.db)?;
        let second = pay::second_payout(&self.db)?;
        Ok(Outcome { world, delivery, approved_bytes, payouts: pay::Payouts { first, second } })
    }

    fn serve(self, arguments: &Arguments) -> anyhow::Result<()> {
        self.clock.go_real();
        let settings = Settings::default();
        let worker = Worker::new(settings, Arc::new(payments::gateways::sandbox::Sandbox::default()));
        let service = Service::start(self.db, settings, worker, load())?;
        let address = arguments.listen.address();
        // Without a key only on loopback: whoever listens elsewhere wants the same protection as `serve`.
        let access = if address.ip().is_loopback() {
            web::Access::Open { actor: setup::OPERATOR.into() }
        } else {
            web::Access::Keys
        };
        service.serve(address, access)
    }
}

fn instant(text: &str) -> Timestamp {
    text.parse().expect("the demo's instants are valid")
}

/// How often waiting looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
