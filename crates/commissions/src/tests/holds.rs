//! The end of the hold, and what people decide.

use events::commissions::CommissionState as State;
use events::conversions::{Attributed, RefundKind, RefundRecorded, Refunded};
use events::partners::{PartnerState, Reinstated, Terminated};
use kernel::{Key, NewEvent, RefundId};
use platform::Page;

use crate::CommissionAction::{Approve, Hold, Reject, Release};
use crate::testing::{attributed, day, partner, refunded, refunds, world};
use crate::{CommissionFilter, explanation, views};

#[test]
fn the_policy_decides_at_the_end_of_the_hold() {
    let world = world();
    world.tell(&attributed(1, 12_500));
    world.tell(&attributed(2, 12_507));
    world.tell(&attributed(3, 13_000));
    world.tell(&refunded(3, 13_000, refunds(13_000, true)));
    world.set_day(29);
    assert_eq!(world.end_holds(), 0, "the hold runs");
    world.set_day(30);
    let before = world.head();
    assert_eq!(world.end_holds(), 3);
    assert_eq!(world.told_after(before), ["approved", "queued", "approved"], "10.00, 10.01 and nothing kept");
    let second = world.live(2).unwrap();
    assert_eq!((second.state, second.queued), (State::Pending, true));
    let balance = world.balance(1);
    assert_eq!((balance.pending_minor, balance.payable_minor), (1_001, 1_000));
    assert_eq!(world.end_holds(), 0);
    // Decided once: a later refund changes the amount, never the state.
    world.tell(&refunded(2, 12_507, refunds(12_000, false)));
    assert_eq!((world.end_holds(), world.live(2).unwrap().queued), (0, true));
    let queue = CommissionFilter { queued: Some(true), ..CommissionFilter::default() };
    let queue = world.read(|reader| views::list(reader, &queue, &Page::first(10)));
    assert_eq!(queue.items.iter().map(|commission| commission.id).collect::<Vec<_>>(), [second.id]);
    world.act(second.id, Approve).unwrap();
    assert_eq!(world.balance(1).payable_minor, 1_000 + 41);
    world.assert_sound();
}

#[test]
fn without_an_automatic_limit_a_person_decides() {
    let world = world();
    let by_hand = events::campaigns::Terms { auto_approve_up_to_minor: None, hold_days: 0, ..crate::testing::terms() };
    world.tell(&Attributed { terms: Some(by_hand), ..attributed(1, 100) });
    assert_eq!(world.end_holds(), 1);
    assert!(world.live(1).unwrap().queued);
    world.assert_sound();
}

#[test]
fn a_suspended_partner_waits() {
    let world = world();
    world.tell(&attributed(1, 1_000));
    world.tell(&Attributed { partner_id: partner(2), ..attributed(2, 1_000) });
    world.partner_is(1, PartnerState::Suspended);
    world.partner_is(2, PartnerState::Suspended);
    world.set_day(30);
    assert_eq!((world.end_holds(), world.end_holds()), (2, 0));
    let first = world.live(1).unwrap();
    assert_eq!(world.act(first.id, Approve).unwrap_err().code(), "partner_suspended");
    assert_eq!(world.approve_many(&[first.id])[0].1.as_ref().unwrap_err().code(), "partner_suspended");
    world.partner_is(1, PartnerState::Active);
    world.tell(&Reinstated { partner_id: partner(1), reason: None });
    assert_eq!(world.end_holds(), 1);
    assert_eq!(world.live(1).unwrap().state, State::Approved);
    assert_eq!(world.live(2).unwrap().state, State::Pending);
    world.partner_is(2, PartnerState::Terminated);
    world.tell(&Terminated { partner_id: partner(2), reason: None });
    assert_eq!(world.end_holds(), 1);
    assert_eq!(world.balance(2).payable_minor, 80, "what was earned before stays owed");
    world.assert_sound();
}

#[test]
fn facts_recorded_before_the_end_of_the_hold_come_first() {
    let world = world();
    world.tell(&attributed(1, 13_000));
    world.set_day(29);
    // Recorded in time, but neither attribution nor this reaction has seen it when the hold ends.
    let recorded = RefundRecorded {
        refund_id: RefundId::from_bytes([6; 16]),
        source: Key::new("shop").unwrap(),
        external_id: Key::new("r").unwrap(),
        conversion_source: Key::new("shop").unwrap(),
        conversion_external_id: Key::new("1").unwrap(),
        kind: RefundKind::Refund,
        amount: None,
        occurred_at: day(1),
    };
    world.publish(&[NewEvent::of(&recorded)]);
    world.set_day(31);
    assert_eq!(world.end_holds(), 0, "conversions has not seen the refund");
    let position = world.publish(&[NewEvent::of(&refunded(1, 13_000, refunds(6_500, false)))]);
    world
        .write(|tx| {
            tx.insert(
                "consumer_cursor",
                ["consumer", "shard", "position"],
                &[["conversions".into(), 0.into(), position.into()]],
                platform::OnDuplicate::Fail,
            )
        })
        .unwrap();
    assert_eq!(world.end_holds(), 0, "this reaction has not seen its effect");
    // A fact of today that is always under way does not stop the clock: what was known then has come through.
    world.react(512);
    world.publish(&[NewEvent::of(&refunded(2, 13_000, refunds(1, false)))]);
    assert_eq!(world.end_holds(), 1);
    assert_eq!(world.live(1).unwrap().state, State::Approved, "5.20 is left");
    world.react(512);
    world.assert_sound();
}

#[test]
fn people_decide() {
    let world = world();
    for n in 1..=4 {
        world.tell(&attributed(n, 20_000));
    }
    let id = |n: u32| world.live(n).unwrap().id;
    assert_eq!(world.act(id(1), Hold).unwrap().state, State::Held);
    let refused = world.act(id(1), Approve).unwrap_err();
    assert_eq!(refused.code(), "illegal_transition");
    assert!(refused.detail().contains("allowed: release, reject"), "{}", refused.detail());
    let before = world.head();
    world.act(id(1), Hold).unwrap();
    assert_eq!(world.head(), before, "asking for what is already so tells nothing");
    world.set_day(30);
    assert_eq!(world.end_holds(), 3);
    // Stopped in the queue and let go, it is in the queue again; released before, it is due.
    world.act(id(2), Hold).unwrap();
    assert!(!world.live(2).unwrap().queued);
    assert!(world.act(id(2), Release).unwrap().queued);
    world.act(id(1), Release).unwrap();
    assert_eq!(world.end_holds(), 1);
    assert!(world.live(1).unwrap().queued);
    let gone = id(4);
    assert_eq!(world.act(gone, Reject).unwrap().reason.as_deref(), Some("because"));
    let unknown = kernel::CommissionId::from_bytes([9; 16]);
    let results = world.approve_many(&[id(1), gone, unknown, id(2), id(1)]);
    let codes: Vec<&str> = results.iter().map(|(_, r)| r.as_ref().map_or_else(|f| f.code(), |()| "ok")).collect();
    assert_eq!(codes, ["ok", "illegal_transition", "commission_not_found", "ok", "ok"]);
    let balance = world.balance(1);
    assert_eq!((balance.accrued_minor, balance.pending_minor, balance.payable_minor), (4_800, 1_600, 3_200));
    let first = id(1);
    let view = world.read(|reader| explanation(reader, first));
    let history: Vec<(Option<State>, &str)> =
        view.transitions.iter().map(|told| (told.state, told.actor.as_str())).collect();
    assert_eq!(
        history,
        [
            (Some(State::Pending), "system"),
            (Some(State::Held), "tester"),
            (Some(State::Pending), "tester"),
            (None, "tester"),
            (Some(State::Approved), "tester"),
        ]
    );
    world.assert_sound();
}

/// The decision comes late, after the reaction to a refund that became known after the hold's end.
#[test]
fn a_refund_after_the_end_of_the_hold_has_no_part_in_the_decision() {
    let world = world();
    for n in [1, 2] {
        world.tell(&attributed(n, 12_507));
    }
    world.set_day(31);
    let at_its_end = refunds(12_000, false);
    world.tell(&Refunded { recorded_at: Some(day(30)), ..refunded(1, 12_507, at_its_end) });
    world.tell(&Refunded { recorded_at: Some(day(29)), ..refunded(2, 12_507, at_its_end) });
    assert_eq!(world.end_holds(), 2);
    let states = [1, 2].map(|n| world.live(n).unwrap()).map(|c| (c.state, c.queued, c.kept_minor));
    assert_eq!(states, [(State::Pending, true, 41), (State::Approved, false, 41)]);
    world.assert_sound();
}
