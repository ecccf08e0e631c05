//! What payouts do to commissions.

use events::commissions::CommissionState as State;
use events::conversions::Attributed;
use events::payments::{ItemCancelled, ItemFailed, ItemReturned, ItemSettled, PayoutCreated, PayoutLine};
use kernel::{CommissionId, Currency, NewEvent, PayoutId, PayoutItemId};

use crate::CommissionAction::Approve;
use crate::testing::{World, attributed, day, partner, refunded, refunds, world};

fn item(n: u8) -> PayoutItemId {
    PayoutItemId::from_bytes([n; 16])
}

fn payout(cut_off_position: i64, items: &[(u8, u8, &[CommissionId])]) -> PayoutCreated {
    PayoutCreated {
        payout_id: PayoutId::from_bytes([8; 16]),
        currency: Currency::USD,
        cut_off: day(0),
        cut_off_position,
        content_digest: String::new(),
        items: items
            .iter()
            .map(|(number, of_partner, commission_ids)| PayoutLine {
                payout_item_id: item(*number),
                partner_id: partner(*of_partner),
                amount_minor: 1,
                commission_ids: commission_ids.to_vec(),
                entries: Vec::new(),
            })
            .collect(),
    }
}

macro_rules! outcome {
    ($event:ident, $item:expr) => {
        $event {
            payout_item_id: item($item),
            payout_id: PayoutId::from_bytes([8; 16]),
            partner_id: partner(1),
            amount_minor: 1,
            currency: Currency::USD,
            reason: None,
            entries: Vec::new(),
        }
    };
}

fn states(world: &World) -> Vec<State> {
    (1..=4).map(|n| world.live(n).unwrap().state).collect()
}

/// Conversions 1 to 3 of partner 1 and 4 of partner 2; all but 3 approved.
fn approved() -> World {
    let world = world();
    for n in 1..=3 {
        world.tell(&attributed(n, 1_000));
    }
    world.tell(&Attributed { partner_id: partner(2), ..attributed(4, 1_000) });
    let ids: Vec<CommissionId> = [1, 2, 4].map(|n| world.live(n).unwrap().id).to_vec();
    assert!(world.approve_many(&ids).iter().all(|(_, result)| result.is_ok()));
    world
}

#[test]
fn everything_payable_at_the_cut_off_is_paid() {
    use State::{Approved, InPayout, Paid, Pending};
    let world = approved();
    let cut_off = world.head();
    world.act(world.live(3).unwrap().id, Approve).unwrap();
    world.tell(&payout(cut_off, &[(1, 1, &[])]));
    assert_eq!(states(&world), [InPayout, InPayout, Approved, Approved], "3 came after the cut-off, 4 is another's");
    assert_eq!(world.live(1).unwrap().payout_item_id, Some(item(1)));
    // A chargeback meanwhile is a clawback.
    world.tell(&refunded(1, 1_000, refunds(1_000, true)));
    assert_eq!(world.balance(1).payable_minor, 160);
    world.tell(&outcome!(ItemSettled, 1));
    assert_eq!(states(&world), [Paid, Paid, Approved, Approved]);
    world.tell(&outcome!(ItemSettled, 1));
    // Returned: payable again as of then, so the old cut-off does not pay it.
    world.tell(&outcome!(ItemReturned, 1));
    assert_eq!(states(&world), [Approved, Approved, Approved, Approved]);
    assert_eq!(world.live(1).unwrap().payout_item_id, None);
    world.tell(&payout(cut_off, &[(2, 1, &[])]));
    assert_eq!(states(&world), [Approved, Approved, Approved, Approved]);
    world.tell(&payout(world.head(), &[(3, 1, &[]), (4, 2, &[])]));
    assert_eq!(states(&world), [InPayout, InPayout, InPayout, InPayout]);
    world.tell(&outcome!(ItemFailed, 3));
    assert_eq!(states(&world), [Approved, Approved, Approved, InPayout]);
    let _ = Pending;
    world.assert_sound();
}

#[test]
fn only_the_named_commissions_are_paid() {
    use State::{Approved, InPayout, Pending};
    let world = approved();
    let ids: Vec<CommissionId> = (1..=4).map(|n| world.live(n).unwrap().id).collect();
    world.tell(&payout(world.head(), &[(1, 1, &[ids[0], ids[2], ids[3], ids[0]])]));
    assert_eq!(states(&world), [InPayout, Approved, Pending, Approved], "3 is pending and 4 is another partner's");
    world.tell(&outcome!(ItemCancelled, 1));
    assert_eq!(states(&world), [Approved, Approved, Pending, Approved]);
    assert_eq!(
        world.told_after(0)[4..],
        ["approved", "approved", "approved", "payout_started", "payout_undone"].map(str::to_owned)
    );
    world.assert_sound();
}

#[test]
fn payouts_of_many_commissions_go_in_pieces_and_see_what_came_before() {
    let world = world();
    let sales: Vec<NewEvent> = (1..=2_100).map(|n| NewEvent::of(&attributed(n, 1_000))).collect();
    world.publish(&sales);
    world.react(512);
    world.set_day(30);
    assert_eq!((world.end_holds(), world.end_holds(), world.end_holds()), (1_000, 1_000, 100));
    // One slice: a sale, the payout, and its outcome.
    world.publish(&[
        NewEvent::of(&attributed(3_000, 1_000)),
        NewEvent::of(&payout(world.head(), &[(1, 1, &[])])),
        NewEvent::of(&outcome!(ItemSettled, 1)),
    ]);
    world.react(512);
    let paid = crate::CommissionFilter { state: Some(State::Paid), ..Default::default() };
    let page = platform::Page { include_total: true, ..platform::Page::first(1) };
    assert_eq!(world.read(|reader| crate::views::list(reader, &paid, &page)).total, Some(2_100));
    world.assert_sound();
}
