//! Wiring: which crates bring tables, which consumers run, and how a database is opened. Tests, the simulator and `main`
//! call the same functions.

use std::sync::Arc;

use kernel::{Clock, IdSource, Result};
use platform::{Consumer, Db, DbOptions, Hook, Location, Migration};

use crate::clock::{SystemClock, real_ids};

/// The tables of every crate.
pub fn migrations() -> Vec<&'static [Migration]> {
    vec![
        platform::MIGRATIONS,
        ledger::MIGRATIONS,
        partners::MIGRATIONS,
        campaigns::MIGRATIONS,
        conversions::MIGRATIONS,
        commissions::MIGRATIONS,
        payments::MIGRATIONS,
        reports::MIGRATIONS,
        web::MIGRATIONS,
    ]
}

/// Options with these sources of time, ids and crashes.
pub fn options(clock: Arc<dyn Clock>, ids: IdSource, hook: Option<Hook>) -> DbOptions {
    DbOptions { clock, ids, hook, migrations: migrations() }
}

/// What a person may set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What happens with a fact that names an unknown partner or campaign.
    pub conversions: conversions::Settings,
    /// Limits of payouts.
    pub payments: payments::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            conversions: conversions::Settings::default(),
            payments: payments::Settings {
                approval_limit_minor: 1_000_000,
                gateway: payments::gateways::sandbox::Sandbox::NAME,
            },
        }
    }
}

/// Every consumer, in the order of the way of a fact through the house.
pub fn consumers(settings: Settings) -> Vec<Consumer> {
    vec![
        partners::consumer(),
        campaigns::consumer(),
        conversions::consumer(settings.conversions),
        commissions::consumer(),
        reports::consumer(),
    ]
}

/// Opens the database with real time and real randomness, brings its tables up to date, and locks a directory.
pub(crate) fn open(location: &Location) -> Result<Db> {
    Db::open(location, options(Arc::new(SystemClock), real_ids(), crash_hook()))
}

/// Opens the database for reading and small writes; beside a running process if there is one.
pub(crate) fn open_beside(location: &Location) -> Result<Db> {
    match open(location) {
        Err(fault) if fault.code() == "data_directory_in_use" => {
            Db::open_beside(location, options(Arc::new(SystemClock), real_ids(), None))
        }
        other => other,
    }
}

/// The transactions whose commits are crash points, as `<name>:before_commit` and `<name>:after_commit`.
#[cfg(debug_assertions)]
pub(crate) const CRASH_POINTS: &[&str] = &[
    "intake",
    "conversions",
    "commissions",
    "reports",
    "holds",
    "seal",
    "roll_up",
    "sweep",
    "payout_intent",
    "payout_outcome",
];

/// In builds with debug assertions `ALPES_CRASH_AT=<name>:<moment>:<nth>` ends the process at the nth passing of that
/// point, as a power cut would: the chaos tests use it.
fn crash_hook() -> Option<Hook> {
    #[cfg(debug_assertions)]
    {
        use std::sync::atomic::{AtomicU64, Ordering};
        let plan = std::env::var("ALPES_CRASH_AT").ok()?;
        let (point, nth) = plan.rsplit_once(':')?;
        let (point, nth) = (point.to_owned(), nth.parse::<u64>().ok()?);
        let passed = AtomicU64::new(0);
        Some(Arc::new(move |name, moment| {
            if point.strip_prefix(name).and_then(|rest| rest.strip_prefix(':')) == Some(moment)
                && passed.fetch_add(1, Ordering::SeqCst) + 1 == nth
            {
                std::process::abort();
            }
            Ok(())
        }))
    }
    #[cfg(not(debug_assertions))]
    None
}
