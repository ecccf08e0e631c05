//! What conversions earn, and what late facts and refunds change about it.

use events::campaigns::{Component, Terms, TermsVersion};
use events::commissions::CommissionState as State;
use events::conversions::{Attributed, Rule};
use kernel::{ConversionId, NewEvent};

use crate::CommissionAction::{Approve, Hold, Reject, Release};
use crate::explanation;
use crate::explanation::StepView;
use crate::model::Skip;
use crate::testing::{
    attributed, day, partner, percent, refunded, refunds, rejected, terms, unattributed, usd, version, world,
};

#[test]
fn a_sale_is_accrued_and_explained() {
    let world = world();
    world.tell(&Attributed { first_purchase: true, ..attributed(1, 11_77) });
    let commission = world.live(1).unwrap();
    assert_eq!((commission.gross_minor, commission.kept_minor, commission.bonus), (94 + 150, 244, true));
    assert_eq!((commission.state, commission.hold_ends_at), (State::Pending, day(30)));
    let balance = world.balance(1);
    assert_eq!((balance.accrued_minor, balance.pending_minor), (244, 244));
    let view = world.read(|reader| explanation(reader, commission.id));
    assert_eq!(
        view.calculation.steps,
        [
            StepView::Percent {
                component: 1,
                of_minor: 1_177,
                basis_points: 800,
                exact_minor: "94.16".to_owned(),
                amount_minor: 94
            },
            StepView::FirstPurchaseBonus { component: 2, amount_minor: 150 },
        ]
    );
    assert!(view.calculation.matches && view.refunds.matches && view.inputs.digest_matches);
    assert_eq!((view.terms.version, view.terms.valid_from), (1, Some(day(0))));
    assert_eq!(view.entries.len(), 1);
    assert_eq!((view.entries[0].kind.as_str(), view.entries[0].amount_minor), ("accrued", 244));
    assert_eq!(view.entries[0].credit, format!("partner_pending:{}", partner(1)));
    assert_eq!(view.transitions.len(), 1);
    assert_eq!(view.transitions[0].state, Some(State::Pending));
    world.assert_sound();
}

#[test]
fn refunds_before_and_after_approval_post_the_difference() {
    let world = world();
    // A refund that came before the sale is applied at once.
    world.tell(&Attributed { refunds: refunds(589, false), ..attributed(1, 11_77) });
    assert_eq!(world.told_after(0), ["accrued", "reversed"]);
    let balance = world.balance(1);
    assert_eq!((balance.accrued_minor, balance.reversed_minor, balance.pending_minor), (94, 47, 47));
    // Another one before the approval, and the approval of what is left.
    world.tell(&refunded(1, 11_77, refunds(600, false)));
    assert_eq!(world.balance(1).pending_minor, 46);
    let id = world.live(1).unwrap().id;
    world.act(id, Approve).unwrap();
    let balance = world.balance(1);
    assert_eq!((balance.pending_minor, balance.payable_minor), (0, 46));
    // A chargeback of the whole, and half of it won back.
    world.tell(&refunded(1, 11_77, refunds(1_177, true)));
    assert_eq!(world.balance(1).payable_minor, 0);
    world.tell(&refunded(1, 11_77, refunds(589, false)));
    let balance = world.balance(1);
    assert_eq!((balance.accrued_minor, balance.reversed_minor, balance.payable_minor), (94, 47, 47));
    assert_eq!(world.live(1).unwrap().kept_minor, 47);
    let view = world.read(|reader| explanation(reader, id));
    let kinds: Vec<&str> = view.entries.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["accrued", "reversed_pending", "reversed_pending", "approved", "reversed", "restored"]);
    assert_eq!(view.refunds.exact_minor, "46.96");
    world.assert_sound();
}

#[test]
fn a_refund_that_changes_no_cent_tells_nothing() {
    let world = world();
    world.tell(&attributed(1, 100_000));
    let before = world.head();
    world.tell(&refunded(1, 100_000, refunds(1, false)));
    assert_eq!(world.told_after(before), Vec::<String>::new());
    world.assert_sound();
}

#[test]
fn nothing_is_earned_without_terms_or_amount() {
    let world = world();
    world.tell(&attributed(1, 0));
    world.tell(&Attributed { occurred_at: day(0).minus(std::time::Duration::from_secs(1)), ..attributed(2, 1_000) });
    world.tell(&refunded(1, 0, refunds(0, true)));
    assert_eq!(world.told_after(0), Vec::<String>::new());
    world.assert_sound();
}

#[test]
fn the_terms_in_force_when_it_occurred_count() {
    let world = world();
    let second = Terms { components: vec![percent(600)], ..terms() };
    world.campaign(vec![version(1, day(0), terms()), version(2, day(10), second)], None);
    world.tell(&Attributed { occurred_at: day(9), ..attributed(1, 10_000) });
    world.tell(&Attributed { occurred_at: day(10), ..attributed(2, 10_000) });
    let one_off =
        Terms { components: vec![Component::Flat { amount_minor: 7, conditions: Default::default() }], ..terms() };
    world.tell(&Attributed { terms: Some(one_off), ..attributed(3, 10_000) });
    let found: Vec<(u32, i64)> =
        (1..=3).map(|n| world.live(n).unwrap()).map(|c| (c.terms_version, c.gross_minor)).collect();
    assert_eq!(found, [(1, 800), (2, 600), (0, 7)]);
    let id = world.live(3).unwrap().id;
    assert_eq!(world.read(|reader| explanation(reader, id)).terms.version, 0);
    world.assert_sound();
}

/// However late the reaction comes, it finds the terms that were known when the conversion was attributed.
#[test]
fn terms_published_after_the_decision_do_not_count_for_it() {
    let world = world();
    world.publish(&[NewEvent::of(&Attributed { occurred_at: day(3), ..attributed(1, 10_000) })]);
    world.set_day(2);
    let second = Terms { components: vec![percent(600)], ..terms() };
    let second = TermsVersion { published_at: day(2), ..version(2, day(2), second) };
    world.campaign(vec![version(1, day(0), terms()), second], None);
    world.react(512);
    assert_eq!(world.live(1).unwrap().terms_version, 1);
    world.assert_sound();
}

#[test]
fn a_late_fact_replaces_what_is_pending() {
    let world = world();
    world.tell(&Attributed { first_purchase: true, ..attributed(1, 11_77) });
    world.tell(&refunded(1, 11_77, refunds(589, false)));
    let first = world.live(1).unwrap();
    assert_eq!(world.balance(1).pending_minor, 122);
    let before = world.head();
    world.set_day(3);
    let late = Attributed { partner_id: partner(2), refunds: refunds(589, false), decision: 2, ..attributed(1, 11_77) };
    world.tell(&late);
    assert_eq!(world.told_after(before), ["superseded", "accrued", "reversed"]);
    let second = world.live(1).unwrap();
    assert_eq!((second.partner_id, second.gross_minor, second.kept_minor), (partner(2), 94, 47));
    assert_eq!(second.hold_ends_at, first.hold_ends_at, "the hold keeps its end");
    let undone = world.balance(1);
    assert_eq!((undone.accrued_minor, undone.reversed_minor, undone.pending_minor), (0, 0, 0), "both are undone");
    assert_eq!(world.balance(2).pending_minor, 47);
    // The same result under another number is nothing.
    let before = world.head();
    world.tell(&Attributed { decision: 3, ..late });
    assert_eq!(world.told_after(before), Vec::<String>::new());
    world.assert_sound();
}

#[test]
fn withdrawn_attributions_end_the_commission() {
    let world = world();
    world.tell(&attributed(1, 1_000));
    world.tell(&attributed(2, 2_000));
    world.act(world.live(2).unwrap().id, Hold).unwrap();
    world.tell(&unattributed(1));
    world.tell(&rejected(2));
    assert!(world.live(1).is_none() && world.live(2).is_none());
    assert_eq!(world.balance(1).pending_minor, 0);
    world.tell(&refunded(1, 1_000, refunds(1_000, true)));
    // Credited again, it is accrued again.
    world.tell(&Attributed { refunds: refunds(500, false), ..attributed(1, 1_000) });
    assert_eq!(world.balance(1).pending_minor, 40);
    world.assert_sound();
}

#[test]
fn after_the_approval_the_decision_stands() {
    let world = world();
    world.tell(&attributed(1, 1_000));
    let id = world.live(1).unwrap().id;
    world.act(id, Approve).unwrap();
    let before = world.head();
    world.tell(&Attributed { partner_id: partner(2), decision: 2, ..attributed(1, 1_000) });
    world.tell(&unattributed(1));
    assert_eq!(world.told_after(before), ["late_fact_noted", "late_fact_noted"]);
    assert_eq!(world.live(1).unwrap().partner_id, partner(1));
    assert_eq!((world.balance(1).payable_minor, world.balance(2).pending_minor), (80, 0));
    world.assert_sound();
}

#[test]
fn a_stop_outlives_the_late_fact() {
    let world = world();
    world.tell(&attributed(1, 1_000));
    world.act(world.live(1).unwrap().id, Hold).unwrap();
    world.tell(&Attributed { partner_id: partner(2), ..attributed(1, 1_000) });
    let held = world.live(1).unwrap();
    assert_eq!((held.state, held.partner_id, held.reason.as_deref()), (State::Held, partner(2), Some("because")));
    world.set_day(31);
    assert_eq!(world.end_holds(), 0);
    world.act(held.id, Release).unwrap();
    assert_eq!(world.end_holds(), 1);
    assert_eq!(world.live(1).unwrap().state, State::Approved);
    world.assert_sound();
}

#[test]
fn a_rejection_stands_until_an_operator_attributes() {
    let world = world();
    world.tell(&attributed(1, 1_000));
    world.tell(&refunded(1, 1_000, refunds(500, false)));
    world.act(world.live(1).unwrap().id, Reject).unwrap();
    let balance = world.balance(1);
    assert_eq!((balance.accrued_minor, balance.reversed_minor, balance.pending_minor), (40, 40, 0));
    let before = world.head();
    world.tell(&refunded(1, 1_000, refunds(1_000, true)));
    world.tell(&Attributed { decision: 2, ..attributed(1, 1_000) });
    assert_eq!(world.told_after(before), Vec::<String>::new(), "after a rejection a refund posts nothing");
    world.tell(&Attributed { partner_id: partner(2), decision: 3, ..attributed(1, 1_000) });
    assert_eq!(world.live(1).unwrap().partner_id, partner(2), "another partner was not refused");
    world.tell(&Attributed { decision: 4, ..attributed(1, 1_000) });
    assert!(world.live(1).is_none());
    world.assert_sound();
    world.tell(&Attributed { rule: Rule::Operator, decision: 5, ..attributed(1, 1_000) });
    assert_eq!(world.live(1).unwrap().partner_id, partner(1));
    world.assert_sound();
}

#[test]
fn the_bonus_goes_to_the_earlier_purchase_that_arrives_later() {
    let first = |n: u32, is_first: bool| Attributed {
        first_purchase: is_first,
        customer: Some("f".repeat(32)),
        ..attributed(n, 1_000)
    };
    for swapped in [false, true] {
        let world = world();
        world.tell(&first(1, true));
        let mut late = [NewEvent::of(&first(2, true)), NewEvent::of(&first(1, false))];
        if swapped {
            late.reverse();
        }
        world.publish(&late);
        world.react(if swapped { 1 } else { 512 });
        let gross: Vec<i64> = (1..=2).map(|n| world.live(n).unwrap().gross_minor).collect();
        assert_eq!(gross, [80, 230], "swapped: {swapped}");
        assert_eq!(world.balance(1).pending_minor, 310);
        world.assert_sound();
    }
}

#[test]
fn an_approved_bonus_stays_and_a_rejected_one_is_free_again() {
    let first = |n: u32| Attributed { first_purchase: true, customer: Some("f".repeat(32)), ..attributed(n, 1_000) };
    let world = world();
    world.tell(&first(1));
    world.act(world.live(1).unwrap().id, Approve).unwrap();
    world.tell(&first(2));
    let second = world.live(2).unwrap();
    assert_eq!((second.gross_minor, second.bonus), (80, false));
    let view = world.read(|reader| explanation(reader, second.id));
    assert_eq!(view.calculation.steps[1], StepView::Skipped { component: 2, reason: Skip::BonusTaken });
    // The earlier one is told that it is not the first: the decision stands.
    world.tell(&Attributed { first_purchase: false, ..first(1) });
    assert_eq!(world.live(1).unwrap().gross_minor, 230);
    world.assert_sound();
    let other = |n: u32| Attributed { first_purchase: true, customer: Some("e".repeat(32)), ..attributed(n, 1_000) };
    world.tell(&other(3));
    world.act(world.live(3).unwrap().id, Reject).unwrap();
    world.tell(&other(4));
    assert!(world.live(4).unwrap().bonus);
    // Pending, but with its hold ended, it keeps the bonus as well.
    world.set_day(40);
    world.tell(&other(5));
    assert!(!world.live(5).unwrap().bonus);
    world.assert_sound();
}

#[test]
fn the_budget_is_checked_on_the_net_change() {
    let world = world();
    world.campaign(vec![version(1, day(0), terms())], Some(1_000));
    world.tell(&attributed(1, 5_000));
    world.tell(&attributed(2, 7_000));
    world.tell(&attributed(3, 7_501));
    let states: Vec<State> = (1..=3).map(|n| world.of(n)[0].state).collect();
    assert_eq!(states, [State::Pending, State::Pending, State::Rejected], "400 and 560 of 1,000; 600 is too much");
    let refused = &world.of(3)[0];
    assert_eq!((refused.reason.as_deref(), refused.gross_minor), (Some("budget_exhausted"), 600));
    assert_eq!(world.balance(1).pending_minor, 960);
    // Not retried by itself, even when a refund frees some of it.
    world.tell(&refunded(2, 7_000, refunds(7_000, true)));
    world.tell(&Attributed { decision: 2, ..attributed(3, 7_501) });
    assert!(world.live(3).is_none());
    // A correction: the old amount is free for the new one.
    world.tell(&Attributed { partner_id: partner(2), decision: 2, ..attributed(1, 5_000) });
    assert_eq!(world.balance(2).pending_minor, 400);
    world.tell(&Attributed { rule: Rule::Operator, decision: 3, ..attributed(3, 7_501) });
    assert_eq!(world.live(3).unwrap().gross_minor, 600, "an operator tries again");
    world.assert_sound();
    // What is kept of it counts, not its gross; and what has been rejected is free again.
    world.tell(&attributed(4, 100));
    assert_eq!(world.of(4)[0].state, State::Rejected);
    world.tell(&Attributed { refunds: refunds(100, true), ..attributed(5, 100) });
    assert_eq!(world.of(5)[0].state, State::Pending);
    world.act(world.live(3).unwrap().id, Reject).unwrap();
    world.tell(&attributed(6, 7_500));
    assert_eq!(world.of(6)[0].state, State::Pending);
    world.assert_sound();
}

#[test]
fn a_correction_beyond_the_budget_is_refused_as_a_whole() {
    let world = world();
    world.campaign(vec![version(1, day(0), terms())], Some(100));
    world.tell(&attributed(1, 1_000));
    // With the bonus it would be 230.
    world.tell(&Attributed { first_purchase: true, decision: 2, ..attributed(1, 1_000) });
    let states: Vec<State> = world.of(1).iter().map(|commission| commission.state).collect();
    assert_eq!(states, [State::Superseded, State::Rejected]);
    assert_eq!(world.balance(1).pending_minor, 0);
    world.tell(&Attributed {
        first_purchase: true,
        customer: attributed(1, 0).customer,
        amount: usd(0),
        ..attributed(2, 0)
    });
    assert!(world.live(2).is_none());
    world.assert_sound();
}

#[test]
fn an_unknown_commission_is_not_found() {
    let world = world();
    let id = kernel::CommissionId::from_bytes([9; 16]);
    assert_eq!(world.act(id, Approve).unwrap_err().code(), "commission_not_found");
    assert_eq!(world.db.read(|reader| explanation(reader, id)).unwrap_err().code(), "commission_not_found");
    assert!(world.read(|reader| crate::live_of(reader, &[ConversionId::from_bytes([9; 16])])).is_empty());
}
