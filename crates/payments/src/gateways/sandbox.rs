//! A gateway without money, for the demo, tests and the simulator. Everything it does follows from a seed and the
//! item's id: who is refused, who is paid and comes back, which calls time out after the work was done, which callbacks
//! come twice. It keeps its own memory of keys, so that what was paid can be compared with the ledger.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel::{PartnerId, PayoutItemId, Timestamp, digest16};

use crate::gateway::{Callback, Payment, PaymentGateway};
use crate::model::Outcome;

kernel::names! {
    /// What always happens to a partner's payments.
    pub enum SandboxRule {
        /// They are refused.
        Fail = "fail",
        /// They are paid and come back.
        ReturnAfterSettlement = "return_after_settlement",
    }
}

/// How the sandbox behaves. Shares are in hundredths of a percent, 0 to 10,000.
#[derive(Debug, Clone, Default)]
pub struct SandboxSettings {
    /// A payment is in progress until this much time has passed since it arrived. Nobody sleeps: time is an argument.
    pub latency: Duration,
    /// Payments that are refused.
    pub fail_basis_points: u16,
    /// Payments that are paid and come back.
    pub return_basis_points: u16,
    /// Calls that time out after the work was done.
    pub time_out_basis_points: u16,
    /// Callbacks that come twice.
    pub duplicate_basis_points: u16,
    /// What happens to the payments of these partners, whatever the shares say.
    pub rules: BTreeMap<PartnerId, SandboxRule>,
}

/// What the sandbox remembers of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What it was asked to pay first.
    pub payment: Payment,
    /// When that arrived.
    pub arrived_at: Timestamp,
    /// How often it was asked to pay this key.
    pub calls: u32,
    /// Whether money left.
    pub paid: bool,
    /// Whether it came back.
    pub returned: bool,
}

#[derive(Debug, Default)]
struct Memory {
    keys: BTreeMap<PayoutItemId, Remembered>,
    /// What is to be told, and from when on.
    callbacks: Vec<(Timestamp, Callback)>,
}

/// The gateway `sandbox`.
#[derive(Debug, Default)]
pub struct Sandbox {
    seed: u64,
    settings: SandboxSettings,
    memory: Mutex<Memory>,
}

impl Sandbox {
    /// The name in the ledger.
    pub const NAME: &'static str = "sandbox";

    /// A sandbox that behaves alike for the same seed.
    pub fn new(seed: u64, settings: SandboxSettings) -> Self {
        Self { seed, settings, memory: Mutex::default() }
    }

    /// Everything it remembers, by key.
    pub fn remembered(&self) -> BTreeMap<PayoutItemId, Remembered> {
        self.memory().keys.clone()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the dice for `what` fall on this item.
    fn happens(&self, what: &str, item_id: PayoutItemId, basis_points: u16) -> bool {
        let digest = digest16(&[&self.seed.to_be_bytes(), what.as_bytes(), item_id.as_bytes()]);
        u16::from_be_bytes([digest[0], digest[1]]) % 10_000 < basis_points
    }

    fn decide(&self, payment: &Payment, now: Timestamp) -> Remembered {
        let rule = self.settings.rules.get(&payment.partner_id);
        let fails = rule.map_or_else(
            || self.happens("fail", payment.item_id, self.settings.fail_basis_points),
            |rule| *rule == SandboxRule::Fail,
        );
        let returns = rule.map_or_else(
            || self.happens("return", payment.item_id, self.settings.return_basis_points),
            |rule| *rule == SandboxRule::ReturnAfterSettlement,
        );
        let paid = !fails;
        Remembered { payment: *payment, arrived_at: now, calls: 0, paid, returned: paid && returns }
    }

    fn done_at(&self, remembered: &Remembered) -> Timestamp {
        remembered.arrived_at.plus(self.settings.latency)
    }

    fn outcome(&self, remembered: &Remembered, now: Timestamp) -> Outcome {
        if now < self.done_at(remembered) {
            Outcome::InProgress
        } else if remembered.paid {
            Outcome::Settled
        } else {
            Outcome::Failed { reason: "refused by the sandbox".to_owned() }
        }
    }

    /// Queues what it will tell about a payment that has just arrived.
    fn tell(&self, memory: &mut Memory, remembered: &Remembered) {
        let done_at = self.done_at(remembered);
        let item_id = remembered.payment.item_id;
        let mut outcomes = vec![self.outcome(remembered, done_at)];
        if remembered.returned {
            outcomes.push(Outcome::Returned { reason: "sent back to the sandbox".to_owned() });
        }
        let times = 1 + usize::from(self.happens("duplicate", item_id, self.settings.duplicate_basis_points));
        for outcome in outcomes {
            let callback = Callback { item_id, outcome };
            memory.callbacks.extend(std::iter::repeat_n((done_at, callback), times));
        }
    }
}

impl PaymentGateway for Sandbox {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn pay(&self, payment: &Payment, now: Timestamp) -> Outcome {
        let mut memory = self.memory();
        if let Some(known) = memory.keys.get_mut(&payment.item_id) {
            known.calls += 1;
            let same = known.payment == *payment;
            return if same { self.outcome(known, now) } else { Outcome::Unknown };
        }
        let fresh = Remembered { calls: 1, ..self.decide(payment, now) };
        self.tell(&mut memory, &fresh);
        let outcome = self.outcome(&fresh, now);
        memory.keys.insert(payment.item_id, fresh);
        let times_out = self.happens("time out", payment.item_id, self.settings.time_out_basis_points);
        if times_out { Outcome::Unknown } else { outcome }
    }

    fn ask(&self, item_id: PayoutItemId, now: Timestamp) -> Outcome {
        self.memory().keys.get(&item_id).map_or(Outcome::NeverSeen, |known| self.outcome(known, now))
    }

    fn take_callbacks(&self, now: Timestamp) -> Vec<Callback> {
        let mut memory = self.memory();
        let (ready, waiting) = std::mem::take(&mut memory.callbacks).into_iter().partition(|(at, _)| *at <= now);
        memory.callbacks = waiting;
        let ready: Vec<(Timestamp, Callback)> = ready;
        ready.into_iter().map(|(_, callback)| callback).collect()
    }

    fn give_back(&self, callbacks: Vec<Callback>) {
        let mut memory = self.memory();
        let again = callbacks.into_iter().map(|callback| (Timestamp::default(), callback));
        let later = std::mem::take(&mut memory.callbacks);
        memory.callbacks = again.chain(later).collect();
    }
}
