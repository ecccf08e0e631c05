//! Crashes and refusals around commits. A crash unwinds through everything that is in memory, as the end of a process
//! would: no code can catch it as though it were an error. Only the database and the bank outlive it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use kernel::{Fault, problems};
use platform::Hook;

/// What unwinds.
struct Crash;

const SIMULATED: &str = "simulated: the database refuses";

/// When the next crash or refusal comes.
#[derive(Default)]
pub(super) struct Crashes {
    /// Moments around commits that pass before it; below zero: none is planned.
    countdown: AtomicI64,
    /// It is a refusal: the commit fails cleanly and the process lives on.
    refuses: AtomicBool,
    moments: AtomicU64,
}

/// How a piece of work ended.
pub(super) enum End<T> {
    Done(T),
    /// The process ended somewhere in it: everything in memory must be built again.
    Crashed,
}

impl Crashes {
    pub(super) fn none() -> Arc<Self> {
        let crashes = Arc::new(Self::default());
        crashes.disarm();
        crashes
    }

    /// Plans one after `moments` further moments.
    pub(super) fn arm(&self, moments: i64, refuses: bool) {
        self.countdown.store(moments, Ordering::SeqCst);
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(super) fn disarm(&self) {
        self.countdown.store(-1, Ordering::SeqCst);
    }

    /// The hook of the database.
    pub(super) fn hook(self: &Arc<Self>) -> Hook {
        let crashes = Arc::clone(self);
        Arc::new(move |_, moment| {
            crashes.moments.fetch_add(1, Ordering::SeqCst);
            if crashes.countdown.fetch_sub(1, Ordering::SeqCst) != 0 {
                return Ok(());
            }
            if !crashes.refuses.load(Ordering::SeqCst) {
                resume_unwind(Box::new(Crash));
            }
            match moment {
                "before_commit" => Err(Fault::new(&problems::UNAVAILABLE, SIMULATED)),
                _ => Ok(()),
            }
        })
    }

    /// Does a piece of work that may crash.
    pub(super) fn survive<T>(work: impl FnOnce() -> T) -> End<T> {
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(answer) => End::Done(answer),
            Err(payload) if payload.is::<Crash>() => End::Crashed,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Whether a fault is a refusal that was planned here.
    pub(super) fn is_planned(fault: &Fault) -> bool {
        fault.detail() == SIMULATED
    }
}
