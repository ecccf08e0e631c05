//! A check that has never failed proves nothing: each kind of difference is planted.

use events::conversions::Attributed;

use crate::CommissionAction::Approve;
use crate::check;
use crate::testing::{World, attributed, refunded, refunds, world};

/// A pending commission with a bonus and a refund, and an approved one.
fn planted(sql: &str) -> Vec<&'static str> {
    let world = filled();
    world.write(|tx| tx.execute(sql, &[])).unwrap();
    world.read(check).into_iter().filter(|check| !check.differences.is_empty()).map(|check| check.name).collect()
}

fn filled() -> World {
    let world = world();
    world.tell(&Attributed { first_purchase: true, ..attributed(1, 1_000) });
    world.tell(&refunded(1, 1_000, refunds(500, false)));
    world.tell(&attributed(2, 1_000));
    world.act(world.live(2).unwrap().id, Approve).unwrap();
    world
}

const RECOMPUTED: &str = "commissions recompute from their inputs";
const LIVE: &str = "one live commission per conversion that earns, none without";
const HISTORIES: &str = "histories of commissions are legal and end in their states";
const ENTRIES: &str = "entries of commissions equal their states";
const BONUSES: &str = "a first-purchase bonus is held once";
const BUDGETS: &str = "what campaigns have committed is what is kept";

#[test]
fn nothing_is_wrong_and_everything_is_counted() {
    let world = filled();
    world.assert_sound();
    let checked: Vec<i64> = world.read(check).iter().map(|check| check.checked).collect();
    assert_eq!(checked, [2, 2, 2, 2, 1, 1]);
}

#[test]
fn every_difference_is_found() {
    let set = |change: &str| format!("UPDATE commission SET {change} WHERE gross_minor = 230");
    assert_eq!(planted(&set("gross_minor = 231")), [RECOMPUTED, LIVE, ENTRIES]);
    assert_eq!(planted(&set("kept_minor = 114")), [RECOMPUTED, ENTRIES, BUDGETS]);
    assert_eq!(planted(&set("terms_version = 2")), [RECOMPUTED, LIVE]);
    assert_eq!(planted(&set("inputs_digest = conversion_id")), [RECOMPUTED]);
    assert_eq!(planted(&set("hold_ends_at = hold_ends_at + 1")), [RECOMPUTED]);
    assert_eq!(planted(&set("refund_position = 99")), [RECOMPUTED]);
    assert_eq!(planted(&set("partner_id = campaign_id")), [RECOMPUTED, LIVE, ENTRIES]);
    assert_eq!(planted(&set("state = 'approved'")), [HISTORIES, ENTRIES]);
    assert_eq!(planted(&set("state = 'superseded'")), [LIVE, HISTORIES, ENTRIES, BUDGETS]);
    let wrong = planted("DELETE FROM commission WHERE gross_minor = 230");
    assert_eq!(wrong, [LIVE, BUDGETS]);
    assert_eq!(planted("UPDATE first_purchase_bonus SET commission_id = NULL WHERE customer IS NOT NULL"), [BONUSES]);
    assert_eq!(planted("UPDATE campaign_spend SET committed_minor = 1 WHERE committed_minor > 0"), [BUDGETS]);
    assert_eq!(
        planted("UPDATE commission SET conversion_id = campaign_id WHERE gross_minor = 230"),
        [RECOMPUTED, LIVE]
    );
}
