//! Duties: which roles a process has, and which works it does at the moment because it holds their leases. A process that
//! has its database for itself needs none.

use std::time::{Duration, Instant};

use kernel::Result;
use platform::lease::{self, Fence};
use platform::{Db, Lane, Tx};

/// What a process may be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Answer requests and record facts
    Api,
    /// Show pages to people: the API's documentation; the console, once there is one
    Console,
    /// React to facts: attribution, commissions, reports; take commands in from the broker
    Reactors,
    /// Take events to sinks
    Relay,
    /// End holds, pay, seal, roll up, sweep
    Timers,
}

/// Leases are renewed this often: three times within their term.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// The leases of one loop.
pub(crate) struct Duties {
    holder: String,
    wanted: Vec<String>,
    renewed: Option<Instant>,
}

impl Duties {
    /// Nothing is held yet; `holder` names this process and loop.
    pub(crate) const fn new(holder: String, wanted: Vec<String>) -> Self {
        Self { holder, wanted, renewed: None }
    }

    /// Once a second: renews what is held and takes what is free; answers what is held from now on. `beside` runs in the
    /// same transaction.
    #[expect(clippy::disallowed_methods, reason = "the loop renews by the clock")]
    pub(crate) fn renew(
        &mut self,
        db: &Db,
        mut beside: impl FnMut(&mut Tx<'_>) -> Result<()>,
    ) -> Result<Option<Vec<Fence>>> {
        if self.renewed.is_some_and(|renewed| renewed.elapsed() < RENEW_EVERY) {
            return Ok(None);
        }
        let wanted: Vec<&str> = self.wanted.iter().map(String::as_str).collect();
        let held = db.write("lease", Lane::Front, "system", |tx| {
            let held = lease::take(tx, &self.holder, &wanted)?;
            beside(tx)?;
            Ok(held)
        })?;
        self.renewed = Some(Instant::now());
        Ok(Some(held))
    }

    /// Gives everything back, so that other processes go on at once.
    pub(crate) fn release(&self, db: &Db) {
        if let Err(fault) = db.write("lease", Lane::Front, "system", |tx| lease::release(tx, &self.holder)) {
            tracing::warn!(%fault, "the leases were not given back; they end by themselves within seconds");
        }
    }
}

/// How this process calls itself: the machine, the process, and something that no other run of it has.
pub(crate) fn holder(db: &Db) -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let machine = if machine.trim().is_empty() { "localhost" } else { machine.trim() };
    format!("{machine}/{}/{}", std::process::id(), kernel::hex(&db.random::<3>()))
}
