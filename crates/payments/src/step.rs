//! The worker between batches and a gateway. Intent is committed before a call, the call is made outside of any
//! transaction, its outcome is committed after it. Whatever is found without an outcome later (a crash, a time-out, a
//! payment in progress) is asked for; only a key that the gateway has never seen is sent again.

use events::payments::PayoutItemState;
use kernel::{Fault, PayoutItemId, Result, Timestamp};
use platform::{Db, Lane, Reader};

use crate::gateway::{Payment, PaymentGateway};
use crate::model::Outcome;
use crate::record_outcome::{Change, apply, record_outcomes};
use crate::views::{ITEM, PayoutItemView, item_row};

/// Items of one step at most, each way.
const MOST: i64 = 64;

/// Hands over what is pending, asks for what has no outcome, takes callbacks; answers how many of these there were, 0
/// when there is nothing to do now. A fault of the database is answered and loses nothing: the next step goes on.
pub fn step(db: &Db, gateway: &dyn PaymentGateway) -> Result<usize> {
    let now = db.now();
    // Read before the intent, so that what is handed over in this step is not asked for in it.
    let (due, pending) = db.read(|reader| Ok((due(reader, gateway.name(), now)?, pending(reader, gateway.name())?)))?;
    let sent = if pending.is_empty() { Vec::new() } else { commit_intent(db, gateway.name())? };
    let mut replies: Vec<(PayoutItemId, Outcome)> = Vec::with_capacity(due.len() + sent.len());
    for item in &due {
        let outcome = match gateway.ask(item.id, now) {
            Outcome::NeverSeen => gateway.pay(&payment(item), now),
            known => known,
        };
        replies.push((item.id, outcome));
    }
    replies.extend(sent.iter().map(|item| (item.id, gateway.pay(&payment(item), now))));
    let callbacks = gateway.take_callbacks(now);
    let told: Vec<(PayoutItemId, Outcome)> =
        callbacks.iter().map(|callback| (callback.item_id, callback.outcome.clone())).chain(replies).collect();
    if told.is_empty() {
        return Ok(0);
    }
    let recorded = db.write("payout_outcome", Lane::Back, "system", |tx| record_outcomes(tx, &told));
    match recorded {
        Ok(refused) => refused.iter().for_each(complain),
        Err(fault) => {
            gateway.give_back(callbacks);
            return Err(fault);
        }
    }
    Ok(told.len())
}

fn complain(fault: &Fault) {
    tracing::error!(%fault, "the gateway contradicts the records: a person must look");
}

fn payment(item: &PayoutItemView) -> Payment {
    Payment { item_id: item.id, partner_id: item.partner_id, amount: item.amount }
}

/// Marks pending items of submitted batches as handed over, before anybody is called.
fn commit_intent(db: &Db, gateway: &str) -> Result<Vec<PayoutItemView>> {
    db.write("payout_intent", Lane::Back, "system", |tx| {
        let items = pending(tx, gateway)?;
        let changes: Vec<Change> = items
            .iter()
            .map(|item| Change { item: item.clone(), to: PayoutItemState::Submitted, reason: None })
            .collect();
        apply(tx, &changes, Vec::new())?;
        Ok(items)
    })
}

fn pending(reader: &Reader<'_>, gateway: &str) -> Result<Vec<PayoutItemView>> {
    let sql = format!(
        "SELECT {ITEM} FROM payout_item WHERE state = 'pending' AND gateway = ? \
         AND payout_id IN (SELECT id FROM payout WHERE state = 'submitted') ORDER BY id LIMIT ?"
    );
    reader.query(&sql, &[gateway.into(), MOST.into()], item_row)
}

fn due(reader: &Reader<'_>, gateway: &str, now: Timestamp) -> Result<Vec<PayoutItemView>> {
    let sql = format!(
        "SELECT {ITEM} FROM payout_item WHERE state IN ('submitted', 'unknown') AND due_at <= ? AND gateway = ? \
         ORDER BY due_at, id LIMIT ?"
    );
    reader.query(&sql, &[now.into(), gateway.into(), MOST.into()], item_row)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use kernel::{Money, PartnerId};
    use proptest::prelude::*;

    use super::*;
    use crate::gateway::Callback;
    use crate::gateways::sandbox::{Sandbox, SandboxRule, SandboxSettings};
    use crate::record_outcome;
    use crate::testing::{World, commission, day, partner, world};

    /// A gateway that answers by a script and writes down what it is asked.
    #[derive(Default)]
    struct Scripted {
        pay: Mutex<Vec<Outcome>>,
        ask: Mutex<Vec<Outcome>>,
        callbacks: Mutex<Vec<Callback>>,
        calls: Mutex<Vec<String>>,
    }

    impl Scripted {
        fn new(pay: &[Outcome], ask: &[Outcome]) -> Self {
            Self { pay: Mutex::new(pay.to_vec()), ask: Mutex::new(ask.to_vec()), ..Self::default() }
        }

        fn next(script: &Mutex<Vec<Outcome>>) -> Outcome {
            let mut script = script.lock().unwrap();
            assert!(!script.is_empty(), "the gateway is called more often than the script expects");
            script.remove(0)
        }

        fn calls(&self) -> Vec<String> {
            std::mem::take(&mut self.calls.lock().unwrap())
        }
    }

    impl PaymentGateway for Scripted {
        fn name(&self) -> &'static str {
            "sandbox"
        }
        fn pay(&self, payment: &Payment, _: Timestamp) -> Outcome {
            self.calls.lock().unwrap().push(format!("pay {}", payment.amount));
            Self::next(&self.pay)
        }
        fn ask(&self, _: PayoutItemId, _: Timestamp) -> Outcome {
            self.calls.lock().unwrap().push("ask".to_owned());
            Self::next(&self.ask)
        }
        fn take_callbacks(&self, _: Timestamp) -> Vec<Callback> {
            std::mem::take(&mut self.callbacks.lock().unwrap())
        }
        fn give_back(&self, callbacks: Vec<Callback>) {
            self.callbacks.lock().unwrap().extend(callbacks);
        }
    }

    /// A world with one submitted batch that owes partner 1 ten dollars.
    fn ten_dollars() -> (World, crate::PayoutView) {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        let payout = world.submitted();
        (world, payout)
    }

    fn failed() -> Outcome {
        Outcome::Failed { reason: "no such account".to_owned() }
    }

    fn returned() -> Outcome {
        Outcome::Returned { reason: "account closed".to_owned() }
    }

    #[test]
    fn settled_items_are_paid_and_complete_their_batch() {
        let (world, payout) = ten_dollars();
        let head = world.db.head();
        world.work(&Sandbox::new(1, SandboxSettings::default()), 3);
        assert_eq!(world.money(partner(1)), (0, 0, 10_00));
        let told = ["payments.item_submitted.v1", "payments.item_settled.v1", "payments.payout_completed.v1"];
        assert_eq!(world.told_since(head), told);
        assert_eq!((world.payout(payout.id).state.as_str(), world.states(payout.id)), ("completed", vec!["settled"]));
        let accounts = world.read(|reader| ledger::trial_balance(reader, world.db.head()));
        let cash = accounts.iter().find(|account| account.account == "cash:sandbox").unwrap();
        assert_eq!(cash.balance_minor, -10_00);
        world.assert_sound();
    }

    #[test]
    fn failed_items_are_payable_again_and_another_batch_pays_them() {
        let (world, payout) = ten_dollars();
        let gateway = Scripted::new(&[failed(), Outcome::Settled], &[]);
        world.work(&gateway, 3);
        assert_eq!(world.money(partner(1)), (10_00, 0, 0));
        let item = world.payout(payout.id).items.remove(0);
        assert_eq!((item.state.as_str(), item.reason.as_deref()), ("failed", Some("no such account")));
        assert_eq!(world.payout(payout.id).state.as_str(), "completed");
        let next = world.submitted();
        assert_ne!(next.items[0].id, item.id, "a new item, a new key");
        world.work(&gateway, 3);
        assert_eq!(world.money(partner(1)), (0, 0, 10_00));
        world.assert_sound();
    }

    #[test]
    fn nothing_is_handed_over_before_its_batch_is_submitted() {
        let world = world();
        world.earn(partner(1), commission(1), 10_00);
        world.create(&crate::testing::everything(day(0))).unwrap();
        assert_eq!(step(&world.db, &Scripted::default()).unwrap(), 0);
        assert_eq!(world.money(partner(1)), (0, 10_00, 0));
    }

    #[test]
    fn a_time_out_is_asked_again_with_growing_delay_and_never_paid_again() {
        let (world, payout) = ten_dollars();
        let head = world.db.head();
        let unknown = || Outcome::Unknown;
        let gateway = Scripted::new(&[unknown()], &[unknown(), unknown(), unknown(), Outcome::Settled]);
        assert_eq!(step(&world.db, &gateway).unwrap(), 1);
        assert_eq!((gateway.calls(), world.states(payout.id)), (vec!["pay 10.00 USD".to_owned()], vec!["unknown"]));
        for wait_seconds in [0, 5, 10, 20] {
            if wait_seconds > 0 {
                world.set_time(world.db.now().plus(Duration::from_secs(wait_seconds - 1)));
                assert_eq!(step(&world.db, &gateway).unwrap(), 0, "too early");
                world.set_time(world.db.now().plus(Duration::from_secs(1)));
            }
            assert_eq!(step(&world.db, &gateway).unwrap(), 1);
            assert_eq!(gateway.calls(), ["ask"]);
        }
        assert_eq!(world.money(partner(1)), (0, 0, 10_00));
        let told = [
            "payments.item_submitted.v1",
            "payments.item_unknown.v1",
            "payments.item_settled.v1",
            "payments.payout_completed.v1",
        ];
        assert_eq!(world.told_since(head), told, "not knowing is told once");
        world.assert_sound();
    }

    #[test]
    fn after_a_crash_the_gateway_is_asked_and_paid_only_if_it_has_never_seen_the_key() {
        for (name, moment, calls) in [
            // The intent was lost: the item is pending, and handed over again.
            ("payout_intent", "before_commit", vec!["pay 10.00 USD"]),
            // The intent stands, nobody was called.
            ("payout_intent", "after_commit", vec!["ask", "pay 10.00 USD"]),
            // The gateway has paid, and we have forgotten.
            ("payout_outcome", "before_commit", vec!["ask"]),
            // All is written; only nobody noticed.
            ("payout_outcome", "after_commit", Vec::new()),
        ] {
            let (world, payout) = ten_dollars();
            let gateway = Scripted::new(&[Outcome::Settled], &[]);
            world.crash(name, moment);
            assert_eq!(step(&world.db, &gateway).unwrap_err().kind(), kernel::Kind::Unavailable);
            let paid_already = gateway.calls().len() == 1;
            let seen = if paid_already { Outcome::Settled } else { Outcome::NeverSeen };
            gateway.ask.lock().unwrap().push(seen);
            world.work(&gateway, 3);
            assert_eq!(gateway.calls(), calls, "after a crash {moment} of {name}");
            assert_eq!((world.money(partner(1)), world.states(payout.id)), ((0, 0, 10_00), vec!["settled"]));
            world.assert_sound();
        }
    }

    #[test]
    fn callbacks_survive_a_commit_that_fails() {
        let (world, payout) = ten_dollars();
        let rules = BTreeMap::from([(partner(1), SandboxRule::ReturnAfterSettlement)]);
        let gateway = Sandbox::new(1, SandboxSettings { rules, ..SandboxSettings::default() });
        world.crash("payout_outcome", "before_commit");
        step(&world.db, &gateway).unwrap_err();
        world.work(&gateway, 4);
        assert_eq!((world.states(payout.id), world.money(partner(1))), (vec!["returned"], (10_00, 0, 0)));
        world.assert_sound();
    }

    #[test]
    fn outcomes_come_twice_late_and_before_the_reply_and_count_once() {
        let (world, payout) = ten_dollars();
        let item_id = payout.items[0].id;
        let gateway = Scripted::new(&[Outcome::InProgress], &[]);
        assert_eq!(step(&world.db, &gateway).unwrap(), 1);
        let record = |outcome: Outcome| world.write("gateway", |tx| record_outcome(tx, item_id, outcome.clone()));
        // The return arrives first: what came back had been paid.
        record(returned()).unwrap();
        assert_eq!((world.money(partner(1)), world.states(payout.id)), ((10_00, 0, 0), vec!["returned"]));
        let head = world.db.head();
        for outcome in [Outcome::Settled, returned(), Outcome::Unknown, Outcome::InProgress, Outcome::NeverSeen] {
            record(outcome).unwrap();
        }
        assert_eq!(world.db.head(), head, "nothing is told twice");
        let item = world.payout(payout.id).items.remove(0);
        assert_eq!((item.reason.as_deref(), item.due_at), (Some("account closed"), None));
        world.assert_sound();
    }

    #[test]
    fn a_contradiction_is_refused_and_holds_up_nobody_else() {
        let world = world();
        (1..=2).for_each(|number| world.earn(partner(number), commission(number), 10_00));
        let payout = world.submitted();
        let gateway = Scripted::new(&[Outcome::Settled, Outcome::InProgress], &[Outcome::Settled]);
        step(&world.db, &gateway).unwrap();
        let record =
            |outcome: Outcome| world.write("gateway", |tx| record_outcome(tx, payout.items[0].id, outcome.clone()));
        assert_eq!(record(failed()).unwrap_err().code(), "outcome_contradicts");
        let unknown = world.write("gateway", |tx| record_outcome(tx, PayoutItemId::from_bytes([9; 16]), failed()));
        assert_eq!(unknown.unwrap_err().code(), "payout_item_not_found");
        gateway.callbacks.lock().unwrap().push(Callback { item_id: payout.items[0].id, outcome: failed() });
        world.work(&gateway, 3);
        assert_eq!((world.money(partner(1)), world.money(partner(2))), ((0, 0, 10_00), (0, 0, 10_00)));
        world.assert_sound();
    }

    #[test]
    fn an_outcome_of_an_item_that_was_never_handed_over_is_refused() {
        let (world, payout) = ten_dollars();
        let outcome = world.write("gateway", |tx| record_outcome(tx, payout.items[0].id, Outcome::Settled));
        assert_eq!(outcome.unwrap_err().code(), "outcome_contradicts");
        assert_eq!(world.money(partner(1)), (0, 10_00, 0));
    }

    #[test]
    fn large_batches_go_in_steps_of_equal_cost() {
        let statements = |items: u8| {
            let world = world();
            (1..=items).for_each(|number| world.earn(partner(number), commission(number), 1_00));
            let payout = world.submitted();
            let gateway = Sandbox::new(1, SandboxSettings::default());
            let count = || world.db.stats().statements.load(std::sync::atomic::Ordering::Relaxed);
            let before = count();
            step(&world.db, &gateway).unwrap();
            let cost = count() - before;
            world.work(&gateway, 5);
            assert_eq!(world.states(payout.id), vec!["settled"; usize::from(items)]);
            assert_eq!(gateway.remembered().len(), usize::from(items));
            world.assert_sound();
            cost
        };
        // Above 64 the batch does not complete in the first step.
        assert_eq!(statements(65), statements(200));
        assert_eq!(statements(2), statements(64));
    }

    #[test]
    fn a_payment_in_progress_is_told_by_the_callback_when_its_time_has_come() {
        let (world, payout) = ten_dollars();
        let latency = Duration::from_secs(3);
        let gateway = Sandbox::new(1, SandboxSettings { latency, ..SandboxSettings::default() });
        world.work(&gateway, 3);
        assert_eq!((world.states(payout.id), world.money(partner(1))), (vec!["submitted"], (0, 10_00, 0)));
        world.set_time(day(0).plus(latency));
        world.work(&gateway, 2);
        assert_eq!((world.states(payout.id), world.money(partner(1))), (vec!["settled"], (0, 0, 10_00)));
    }

    /// What the sandbox says that partners have: paid and not come back.
    fn kept(gateway: &Sandbox) -> BTreeMap<PartnerId, Money> {
        let remembered = gateway.remembered();
        let kept = remembered.values().filter(|r| r.paid && !r.returned);
        let kept: Vec<_> = kept.map(|r| (r.payment.partner_id, r.payment.amount)).collect();
        let sums: BTreeMap<_, _> = kept.iter().copied().collect();
        assert_eq!(sums.len(), kept.len(), "nobody is paid twice in one batch");
        sums
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn whatever_happens_the_ledger_agrees_with_the_gateway(
            seed in any::<u64>(),
            latency_seconds in 0_u64..20,
            shares in prop::array::uniform4(0_u16..6_000),
            crashes in prop::collection::vec((0_usize..6, 0_usize..4), 0..6),
        ) {
            let world = world();
            (1..=9).for_each(|number| world.earn(partner(number), commission(number), 1_00 + i64::from(number)));
            let payout = world.submitted();
            let gateway = Sandbox::new(seed, SandboxSettings {
                latency: Duration::from_secs(latency_seconds),
                fail_basis_points: shares[0],
                return_basis_points: shares[1],
                time_out_basis_points: shares[2],
                duplicate_basis_points: shares[3],
                rules: BTreeMap::new(),
            });
            let points = [("payout_intent", "before_commit"), ("payout_intent", "after_commit"),
                ("payout_outcome", "before_commit"), ("payout_outcome", "after_commit")];
            for round in 0..40 {
                if let Some((_, point)) = crashes.iter().find(|(at, _)| *at == round) {
                    world.crash(points[*point].0, points[*point].1);
                }
                let _ = step(&world.db, &gateway);
                world.set_time(day(0).plus(Duration::from_secs(10 * round as u64)));
            }
            world.set_time(day(1));
            world.work(&gateway, 10);
            prop_assert_eq!(world.payout(payout.id).state.as_str(), "completed");
            let paid: BTreeMap<PartnerId, Money> = world
                .balances()
                .into_iter()
                .filter(|(_, balance)| balance.paid_minor != 0)
                .map(|(id, balance)| (id, Money::new(balance.paid_minor, kernel::Currency::USD)))
                .collect();
            prop_assert_eq!(paid, kept(&gateway));
            prop_assert!(world.balances().values().all(|balance| balance.in_payout_minor == 0));
            prop_assert_eq!(gateway.remembered().len(), 9);
            world.assert_sound();
        }
    }
}
