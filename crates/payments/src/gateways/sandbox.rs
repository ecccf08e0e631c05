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

#[cfg(test)]
mod tests {
    use super::super::conformance::{conforms, payment};
    use super::*;

    const START: Timestamp = Timestamp::from_micros(1_769_860_800_000_000);

    fn settings(latency_seconds: u64, basis_points: u16) -> SandboxSettings {
        SandboxSettings {
            latency: Duration::from_secs(latency_seconds),
            fail_basis_points: basis_points,
            return_basis_points: basis_points,
            time_out_basis_points: basis_points,
            duplicate_basis_points: basis_points,
            rules: BTreeMap::new(),
        }
    }

    #[test]
    fn it_conforms_however_it_is_set() {
        for seed in 0..8 {
            for (latency_seconds, basis_points) in [(0, 0), (0, 3_000), (90, 3_000), (3_600, 5_000), (1, 10_000)] {
                conforms(
                    || Sandbox::new(seed, settings(latency_seconds, basis_points)),
                    |sandbox, item_id| {
                        let remembered = sandbox.remembered();
                        remembered
                            .get(&item_id)
                            .filter(|known| known.paid)
                            .map(|k| k.payment.amount)
                            .into_iter()
                            .collect()
                    },
                );
            }
        }
    }

    #[test]
    fn the_same_seed_does_the_same_and_another_does_not() {
        let run = |seed| {
            let sandbox = Sandbox::new(seed, settings(0, 3_000));
            let replies: Vec<Outcome> = (0..=u8::MAX).map(|number| sandbox.pay(&payment(number), START)).collect();
            (replies, sandbox.take_callbacks(START))
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let count = |outcome: Outcome| run(1).0.into_iter().filter(|said| *said == outcome).count();
        assert!((50..=110).contains(&count(Outcome::Unknown)), "three in ten time out: {}", count(Outcome::Unknown));
    }

    #[test]
    fn a_time_out_has_done_the_work() {
        let sandbox = Sandbox::new(1, SandboxSettings { time_out_basis_points: 10_000, ..SandboxSettings::default() });
        assert_eq!(sandbox.pay(&payment(1), START), Outcome::Unknown);
        assert_eq!(sandbox.ask(payment(1).item_id, START), Outcome::Settled);
        assert!(sandbox.remembered()[&payment(1).item_id].paid);
    }

    #[test]
    fn rules_decide_for_their_partners_alone() {
        let rules = BTreeMap::from([
            (payment(5).partner_id, SandboxRule::Fail),
            (payment(9).partner_id, SandboxRule::ReturnAfterSettlement),
        ]);
        let sandbox = Sandbox::new(1, SandboxSettings { rules, ..SandboxSettings::default() });
        let said: Vec<Outcome> = (1..=9).map(|number| sandbox.pay(&payment(number), START)).collect();
        let failed = said.iter().filter(|outcome| matches!(outcome, Outcome::Failed { .. })).count();
        assert_eq!((failed, &said[3], &said[8]), (1, &Outcome::Settled, &Outcome::Settled));
        let told = sandbox.take_callbacks(START);
        let returned: Vec<PayoutItemId> = told
            .iter()
            .filter(|callback| matches!(callback.outcome, Outcome::Returned { .. }))
            .map(|callback| callback.item_id)
            .collect();
        assert_eq!(returned, [payment(9).item_id]);
    }
}
