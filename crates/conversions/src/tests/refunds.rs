//! What is taken back, in any order.

use events::conversions::{Attributed, RefundKind, RefundRejected, Refunded, Refunds};
use kernel::{Amount, Money};

use crate::testing::{day, key, refund, sale, touch, usd, world};
use crate::{Fact, NewConversion, NewRefund, views};

#[test]
fn a_refund_waits_for_its_sale_and_the_decision_carries_the_totals() {
    let mut world = world();
    world.play(vec![refund("r1", "1", Some(usd(2_500))).into(), refund("r2", "1", Some(usd(20_000))).into()]);
    assert_eq!(world.parked(), 2);
    world.play(vec![touch("1", "anna", 1, day(-1)).into(), sale("1", "anna", day(0)).into()]);
    assert_eq!(world.parked(), 0);
    assert_eq!(world.find("1").refunded_minor, 2_500);
    let refunded = world.told::<Refunded>();
    assert_eq!(refunded.len(), 1);
    assert_eq!(refunded[0].refunds, Refunds { refunded_minor: 2_500, whole: false, excess_minor: 0 });
    assert_eq!(world.told::<RefundRejected>()[0].reason, "refund_exceeds_conversion");
    world.play(vec![touch("2", "anna", 2, day(0)).into()]);
    let last = world.told::<Attributed>().pop().unwrap();
    assert_eq!((last.decision, last.refunds.refunded_minor), (2, 2_500));
    let listed = world.db.read(|reader| views::refunds(reader, last.conversion_id)).unwrap();
    let states: Vec<&str> = listed.iter().map(|refund| refund.state.as_str()).collect();
    assert_eq!(states, ["applied", "rejected"]);
    world.assert_verified();
}

#[test]
fn parts_sum_and_the_excess_is_listed() {
    let mut world = world();
    let won_back = NewRefund { kind: RefundKind::ChargebackReversed, ..refund("r3", "1", Some(usd(8_000))) };
    let elsewhere = NewRefund { source: key("bank"), conversion_source: Some(key("shop")), ..refund("r1", "1", None) };
    let facts: Vec<Fact> = vec![
        sale("1", "anna", day(0)).into(),
        refund("r1", "1", Some(usd(3_000))).into(),
        NewRefund { kind: RefundKind::Chargeback, ..refund("r2", "1", Some(usd(8_000))) }.into(),
        won_back.into(),
        elsewhere.into(),
    ];
    world.play(facts);
    let totals: Vec<(i64, bool, i64)> = world
        .told::<Refunded>()
        .iter()
        .map(|told| (told.refunds.refunded_minor, told.refunds.whole, told.refunds.excess_minor))
        .collect();
    assert_eq!(totals, [(3_000, false, 0), (10_000, true, 1_000), (3_000, false, 0), (10_000, true, 3_000)]);
    assert_eq!(world.find("1").refunded_minor, 10_000);
    world.assert_verified();
}

#[test]
fn another_currency_is_refused_at_intake_when_the_sale_is_known_and_rejected_when_it_comes_later() {
    let mut world = world();
    let euros = Amount::new(Money::new(1, "EUR".parse().unwrap())).unwrap();
    world.take(vec![sale("1", "anna", day(0)).into()]);
    let fault = world.record(vec![refund("r1", "1", Some(euros)).into()]).remove(0).unwrap_err();
    assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("currency_mismatch", "/amount/currency"));
    world.play(vec![refund("r2", "2", Some(euros)).into()]);
    world.play(vec![sale("2", "anna", day(0)).into()]);
    assert_eq!(world.told::<RefundRejected>()[0].reason, "currency_mismatch");
    assert_eq!(world.find("2").refunded_minor, 0);
}

#[test]
fn a_sale_that_waits_is_refunded_all_the_same() {
    let mut world = world();
    let waits = NewConversion { partner_id: Some("erp:9".parse().unwrap()), ..sale("1", "anna", day(0)) };
    world.play(vec![refund("r1", "1", None).into(), waits.into()]);
    assert_eq!(world.parked(), 1);
    assert_eq!(world.find("1").refunded_minor, 10_000);
    world.assert_verified();
}
