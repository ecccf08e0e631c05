//! The real clock, the demo's clock and the real source of ids: the only places that ask the machine for time or chance.

use std::sync::atomic::{AtomicBool, Ordering};

use kernel::{Clock, IdSource, ManualClock, Timestamp};

/// The machine's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one real clock that everything else is given")]
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// The demo's clock: stands where the demo puts it, and becomes the machine's clock when the demo begins to serve.
pub struct DemoClock {
    manual: ManualClock,
    real: AtomicBool,
}

impl DemoClock {
    /// A clock standing at `now`.
    pub fn at(now: Timestamp) -> Self {
        Self { manual: ManualClock::at(now), real: AtomicBool::new(false) }
    }

    /// Moves the clock.
    pub fn set(&self, now: Timestamp) {
        self.manual.set(now);
    }

    /// From now on the machine's clock counts.
    pub fn go_real(&self) {
        self.real.store(true, Ordering::SeqCst);
    }
}

impl Clock for DemoClock {
    fn now(&self) -> Timestamp {
        if self.real.load(Ordering::SeqCst) { SystemClock.now() } else { self.manual.now() }
    }
}

/// Ids with real randomness.
pub(crate) fn real_ids() -> IdSource {
    use rand::{TryRngCore, rngs::OsRng};
    let mut seed = [0; 32];
    OsRng.try_fill_bytes(&mut seed).expect("the operating system gives random bytes");
    IdSource::from_seed(seed)
}
