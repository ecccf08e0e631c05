//! What every gateway promises, whatever it is made of. A gateway's tests call `conforms`.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{Currency, Money, PartnerId, PayoutItemId, Timestamp};

use crate::gateway::{Callback, Payment, PaymentGateway};
use crate::model::Outcome;

/// When the first call is made.
const START: Timestamp = Timestamp::from_micros(1_769_860_800_000_000);
/// Every gateway has an outcome within this time.
const PATIENCE: Duration = Duration::from_secs(86_400);

pub(super) fn payment(number: u8) -> Payment {
    Payment {
        item_id: PayoutItemId::from_bytes([number; 16]),
        partner_id: PartnerId::from_bytes([number; 16]),
        amount: Money::new(1_00 + i64::from(number), Currency::USD),
    }
}

/// Checks the promises of `PaymentGateway`. `paid` answers how much money left for a key, as the gateway's own books say.
pub(super) fn conforms<G: PaymentGateway>(make: impl Fn() -> G, paid: impl Fn(&G, PayoutItemId) -> Vec<Money>) {
    never_seen_keys_are_known_to_be_so(&make());
    one_key_pays_at_most_once_and_the_same_amount(&make(), &paid);
    another_amount_under_a_used_key_pays_nothing(&make(), &paid);
    outcomes_are_final(&make(), &paid);
    callbacks_agree_and_can_be_given_back(&make());
}

fn is_final(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Settled | Outcome::Failed { .. } | Outcome::Returned { .. })
}

fn never_seen_keys_are_known_to_be_so(gateway: &impl PaymentGateway) {
    assert!(!gateway.name().is_empty());
    assert_eq!(gateway.ask(payment(1).item_id, START), Outcome::NeverSeen);
    gateway.pay(&payment(1), START);
    assert_ne!(gateway.ask(payment(1).item_id, START), Outcome::NeverSeen);
    assert_eq!(gateway.ask(payment(2).item_id, START), Outcome::NeverSeen);
}

fn one_key_pays_at_most_once_and_the_same_amount<G: PaymentGateway>(
    gateway: &G,
    paid: &impl Fn(&G, PayoutItemId) -> Vec<Money>,
) {
    for number in 0..=u8::MAX {
        let payment = payment(number);
        for at in [START, START, START.plus(PATIENCE)] {
            gateway.pay(&payment, at);
        }
        let outcome = gateway.pay(&payment, START.plus(PATIENCE));
        let expected = if matches!(outcome, Outcome::Failed { .. }) { Vec::new() } else { vec![payment.amount] };
        assert_eq!(paid(gateway, payment.item_id), expected, "item {number}: {outcome:?}");
    }
}

fn another_amount_under_a_used_key_pays_nothing<G: PaymentGateway>(
    gateway: &G,
    paid: &impl Fn(&G, PayoutItemId) -> Vec<Money>,
) {
    for number in 0..=u8::MAX {
        let first = payment(number);
        gateway.pay(&first, START);
        let before = paid(gateway, first.item_id);
        let more = Payment { amount: Money::new(999_999, Currency::USD), ..first };
        let other = Payment { partner_id: PartnerId::from_bytes([255 - number; 16]), ..first };
        for changed in [more, other] {
            let outcome = gateway.pay(&changed, START.plus(PATIENCE));
            assert!(changed == first || !is_final(&outcome), "an outcome of the first is none of another: {outcome:?}");
        }
        assert_eq!(paid(gateway, first.item_id), before);
    }
}

/// Money that is gone stays gone unless it comes back; what was refused stays refused.
fn outcomes_are_final<G: PaymentGateway>(gateway: &G, paid: &impl Fn(&G, PayoutItemId) -> Vec<Money>) {
    for number in 0..=u8::MAX {
        let item_id = payment(number).item_id;
        let mut said = vec![gateway.pay(&payment(number), START)];
        for minutes in 0..10 {
            said.push(gateway.ask(item_id, START.plus(Duration::from_secs(minutes * 60))));
        }
        said.push(gateway.ask(item_id, START.plus(PATIENCE)));
        said.retain(is_final);
        said.dedup();
        let settled_first = matches!(said[..], [Outcome::Settled] | [Outcome::Settled, Outcome::Returned { .. }]);
        let alone = matches!(said[..], [Outcome::Returned { .. }] | [Outcome::Failed { .. }]);
        assert!(settled_first || alone, "item {number}: {said:?}");
        let refused = matches!(said[..], [Outcome::Failed { .. }]);
        assert_eq!(paid(gateway, item_id).is_empty(), refused, "item {number}: {said:?}");
    }
}

fn callbacks_agree_and_can_be_given_back(gateway: &impl PaymentGateway) {
    assert_eq!(gateway.take_callbacks(START), []);
    let mut asked = BTreeMap::new();
    for number in 0..=u8::MAX {
        gateway.pay(&payment(number), START);
        asked.insert(payment(number).item_id, payment(number));
    }
    let end = START.plus(PATIENCE);
    let told = gateway.take_callbacks(end);
    assert_eq!(gateway.take_callbacks(end), [], "taken is taken");
    gateway.give_back(told.clone());
    assert_eq!(gateway.take_callbacks(end), told, "given back is handed out again");
    for Callback { item_id, outcome } in told {
        assert!(asked.contains_key(&item_id), "{item_id} was never asked for");
        assert!(is_final(&outcome), "{outcome:?} is no news");
        let known = gateway.ask(item_id, end);
        let later = matches!((&outcome, &known), (Outcome::Returned { .. }, Outcome::Settled))
            || matches!((&outcome, &known), (Outcome::Settled, Outcome::Returned { .. }));
        assert!(outcome == known || later, "{item_id}: told {outcome:?}, asked {known:?}");
    }
}
