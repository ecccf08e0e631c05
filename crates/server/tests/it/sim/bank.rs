//! The bank behind the product's gateway. It pays, refuses, sends money back, is slow, does not answer, tells twice and in
//! any order; and it watches: a key is paid at most once, with one amount, and is never paid again on mere suspicion.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use kernel::{Currency, PartnerId, PayoutItemId, Timestamp};
use payments::{Callback, Outcome, Payment, PaymentGateway};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, SeedableRng};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Paid,
    Refused,
    SentBack,
}

#[derive(Debug)]
struct Known {
    payment: Payment,
    fate: Fate,
    done_at: Timestamp,
}

#[derive(Debug)]
struct Memory {
    rng: StdRng,
    keys: BTreeMap<PayoutItemId, Known>,
    /// Keys that were sent and of which the bank has not said since that it never saw them.
    sent: BTreeMap<PayoutItemId, bool>,
    callbacks: Vec<(Timestamp, Callback)>,
    broken: Vec<String>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bank(Mutex<Memory>);

impl Bank {
    pub(super) fn new(seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed ^ 0xba4c);
        let (keys, sent) = (BTreeMap::new(), BTreeMap::new());
        Self(Mutex::new(Memory { rng, keys, sent, callbacks: Vec::new(), broken: Vec::new() }))
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().expect("the world has one thread")
    }

    /// What it saw that must not be.
    pub(super) fn broken(&self) -> Vec<String> {
        self.memory().broken.clone()
    }

    /// How many payments were asked for.
    pub(super) fn payments(&self) -> u64 {
        self.memory().keys.len() as u64
    }

    /// Money that left and did not come back, by partner and currency, minor units.
    pub(super) fn paid(&self) -> BTreeMap<(PartnerId, Currency), i64> {
        let mut paid = BTreeMap::new();
        for known in self.memory().keys.values().filter(|known| known.fate == Fate::Paid) {
            let Payment { partner_id, amount, .. } = known.payment;
            *paid.entry((partner_id, amount.currency)).or_default() += amount.amount_minor;
        }
        paid
    }

    /// A process that ends may have taken callbacks without recording them: the bank tells all of them again.
    pub(super) fn tells_again(&self) {
        let mut memory = self.memory();
        let told: Vec<PayoutItemId> = memory.keys.keys().copied().collect();
        told.into_iter().for_each(|id| memory.tell(id));
    }
}

impl Memory {
    fn tell(&mut self, item_id: PayoutItemId) {
        let known = &self.keys[&item_id];
        let at = known.done_at;
        let outcomes = match known.fate {
            Fate::Paid => vec![Outcome::Settled],
            Fate::Refused => vec![failed()],
            Fate::SentBack => vec![Outcome::Settled, returned()],
        };
        for outcome in outcomes {
            let times = self.rng.random_range(1..=2);
            let callback = Callback { item_id, outcome };
            self.callbacks.extend(std::iter::repeat_n((at, callback), times));
        }
    }

    fn answer(&self, item_id: PayoutItemId, now: Timestamp) -> Outcome {
        match self.keys.get(&item_id) {
            None => Outcome::NeverSeen,
            Some(known) if now < known.done_at => Outcome::InProgress,
            Some(known) => match known.fate {
                Fate::Paid | Fate::SentBack => Outcome::Settled,
                Fate::Refused => failed(),
            },
        }
    }
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "account closed".to_owned() }
}

fn returned() -> Outcome {
    Outcome::Returned { reason: "sent back".to_owned() }
}

impl PaymentGateway for Bank {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    fn pay(&self, payment: &Payment, now: Timestamp) -> Outcome {
        let memory = &mut *self.memory();
        let item_id = payment.item_id;
        if memory.sent.insert(item_id, true).is_some() {
            memory.broken.push(format!("{item_id} was paid again without asking what became of it"));
        }
        if let Some(known) = memory.keys.get(&item_id) {
            if known.payment != *payment {
                memory.broken.push(format!("{item_id} came back as {payment:?}, not {:?}", known.payment));
            }
            return memory.answer(item_id, now);
        }
        if memory.rng.random_ratio(1, 10) {
            return Outcome::Unknown; // lost on the way: the bank never saw it
        }
        let fate = *[Fate::Paid, Fate::Paid, Fate::Paid, Fate::Refused, Fate::SentBack]
            .choose(&mut memory.rng)
            .expect("not empty");
        let minutes = if memory.rng.random_ratio(1, 2) { 0 } else { memory.rng.random_range(1..=90) };
        let done_at = now.plus(kernel::Duration::from_secs(minutes * 60));
        memory.keys.insert(item_id, Known { payment: *payment, fate, done_at });
        memory.tell(item_id);
        match memory.rng.random_ratio(1, 4) {
            true => Outcome::Unknown, // after doing the work
            false => memory.answer(item_id, now),
        }
    }

    fn ask(&self, item_id: PayoutItemId, now: Timestamp) -> Outcome {
        let memory = &mut *self.memory();
        if memory.rng.random_ratio(1, 5) {
            return Outcome::Unknown;
        }
        let answer = memory.answer(item_id, now);
        if answer == Outcome::NeverSeen {
            memory.sent.remove(&item_id);
        }
        answer
    }

    fn take_callbacks(&self, now: Timestamp) -> Vec<Callback> {
        let memory = &mut *self.memory();
        let all = std::mem::take(&mut memory.callbacks);
        let (mut due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|(at, _)| *at <= now);
        due.shuffle(&mut memory.rng);
        memory.callbacks = later;
        due.into_iter().map(|(_, callback)| callback).collect()
    }

    fn give_back(&self, callbacks: Vec<Callback>) {
        let again = callbacks.into_iter().map(|callback| (Timestamp::default(), callback));
        self.memory().callbacks.extend(again);
    }
}
