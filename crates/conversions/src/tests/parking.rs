//! What must wait, and what resumes it.

use events::campaigns::CampaignState;
use events::conversions::{ConversionState, ReferenceMissing};
use events::partners::{self, PartnerState};

use crate::testing::{campaign, day, key, partner, profile, sale, touch, world};
use crate::{Fact, Named, NewConversion, NewTouch, Settings, UnknownReference};

#[test]
fn an_applied_partner_a_draft_and_unknown_ones_park_and_are_resumed() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.publish_campaign(campaign(2), &profile(CampaignState::Draft));
    let by = |external_id: &str, by: u8| -> Fact {
        NewConversion { partner_id: Some(Named::Id(partner(by))), ..sale(external_id, "anna", day(0)) }.into()
    };
    let of = |external_id: &str, number: u8| -> Fact {
        NewConversion { campaign_id: Some(Named::Id(campaign(number))), ..sale(external_id, "anna", day(0)) }.into()
    };
    world.play(vec![by("applied", 4), by("unknown", 5), of("draft", 2), of("nowhere", 3)]);
    let reason = |world: &crate::testing::World, external_id: &str| {
        let view = world.find(external_id);
        assert_eq!(view.state, ConversionState::Recorded);
        view.parked.unwrap().reason
    };
    assert_eq!(reason(&world, "applied"), "partner_applied");
    assert_eq!(reason(&world, "unknown"), "partner_unknown");
    assert_eq!(reason(&world, "draft"), "campaign_draft");
    assert_eq!(reason(&world, "nowhere"), "campaign_unknown");
    world.enroll(campaign(1), partner(4), None, None, None);
    world.activate_partner(partner(4));
    world.activate_campaign(campaign(2), &profile(CampaignState::Active));
    world.run();
    assert_eq!(world.credited("applied"), ("attributed".to_owned(), 4));
    assert_eq!(world.credited("draft"), ("unattributed".to_owned(), 0));
    assert!(world.find("applied").parked.is_none());
    assert_eq!(world.parked(), 2);
    world.publish_partner(partner(5), PartnerState::Rejected);
    world.tell(&partners::Rejected { partner_id: partner(5), reason: None });
    world.run();
    assert_eq!(world.credited("unknown"), ("unattributed".to_owned(), 0));
    assert_eq!(world.parked(), 1);
    world.assert_verified();
}

#[test]
fn a_parked_touch_is_no_candidate_until_it_is_resumed() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.enroll(campaign(1), partner(4), None, None, None);
    world.play(vec![touch("1", "anna", 4, day(-1)).into(), sale("1", "anna", day(0)).into()]);
    assert_eq!(world.credited("1"), ("unattributed".to_owned(), 0));
    world.assert_verified();
    world.activate_partner(partner(4));
    world.assert_verified();
    world.run();
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4));
    world.assert_verified();
}

#[test]
fn references_of_other_systems_are_waited_for_and_resolved() {
    let mut world = world();
    let touch = NewTouch {
        partner_id: "shopify:77".parse().unwrap(),
        campaign_id: "shopify:summer".parse().unwrap(),
        ..touch("1", "anna", 1, day(-1))
    };
    let named = NewConversion {
        partner_id: Some("shopify:77".parse().unwrap()),
        campaign_id: Some("shopify:summer".parse().unwrap()),
        ..sale("1", "anna", day(0))
    };
    let unnamed = NewConversion { campaign_id: None, ..sale("2", "anna", day(0)) };
    world.play(vec![touch.into(), named.into(), unnamed.into()]);
    assert_eq!(world.find("1").parked.unwrap().wait_key, "campaign:shopify:summer");
    world.create_campaign_as(campaign(2), "shopify:summer");
    world.run();
    assert_eq!(world.find("1").parked.unwrap().reason, "campaign_draft");
    world.activate_campaign(campaign(2), &profile(CampaignState::Active));
    world.run();
    assert_eq!(world.find("1").parked.unwrap().wait_key, "partner:shopify:77");
    world.apply_as(partner(4), "shopify:77");
    world.enroll(campaign(2), partner(4), None, None, None);
    world.run();
    assert_eq!(world.find("1").parked.unwrap().reason, "partner_applied");
    world.activate_partner(partner(4));
    world.run();
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4));
    assert_eq!(world.credited("2"), ("attributed".to_owned(), 4));
    assert_eq!(world.parked(), 0);
    world.assert_verified();
}

#[test]
fn provision_asks_once_for_each_reference() {
    let settings = Settings { unknown_reference: UnknownReference::Provision };
    let mut world = world().with_settings(settings);
    let by = |external_id: &str, reference: &str| -> Fact {
        NewConversion { partner_id: Some(reference.parse().unwrap()), ..sale(external_id, "anna", day(0)) }.into()
    };
    world.play(vec![by("1", "shopify:77"), by("2", "shopify:77"), by("3", &partner(9).to_string())]);
    world.play(vec![by("4", "shopify:77"), by("5", "shopify:78")]);
    let campaign_of = NewConversion { campaign_id: Some("erp:x".parse().unwrap()), ..sale("6", "anna", day(0)) };
    world.play(vec![campaign_of.into()]);
    let asked: Vec<(String, String, bool)> = world
        .told::<ReferenceMissing>()
        .into_iter()
        .map(|told| (told.kind, told.reference, told.currency.is_some()))
        .collect();
    let expected = [("partner", "shopify:77"), ("partner", "shopify:78"), ("campaign", "erp:x")];
    assert_eq!(asked, expected.map(|(kind, reference)| (kind.to_owned(), reference.to_owned(), true)));
    assert_eq!(world.parked(), 6);
    assert_eq!(world.sweep(), 0);
    assert_eq!(world.parked(), 6);
}

#[test]
fn a_code_of_an_applied_partner_parks_when_its_turn_comes() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.enroll(campaign(1), partner(4), Some("FOUR"), None, None);
    let coded = NewConversion { code: Some(key("FOUR")), ..sale("1", "anna", day(0)) };
    let other = NewConversion { partner_id: Some(Named::Id(partner(1))), ..coded.clone() };
    let other = NewConversion { external_id: key("2"), ..other };
    world.play(vec![coded.into(), other.into()]);
    assert_eq!(world.find("1").parked.unwrap().reason, "partner_applied");
    assert_eq!(world.credited("2"), ("attributed".to_owned(), 1));
    world.activate_partner(partner(4));
    world.run();
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4));
    world.assert_verified();
}

#[test]
fn a_lost_wake_up_costs_only_time() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.enroll(campaign(1), partner(4), None, None, None);
    world.play(vec![touch("1", "anna", 4, day(-1)).into(), sale("1", "anna", day(0)).into()]);
    world.publish_partner(partner(4), PartnerState::Active);
    world.run();
    assert_eq!((world.parked(), world.sweep(), world.parked()), (1, 1, 0));
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4));
    assert_eq!(world.sweep(), 0);
    world.assert_verified();
}

/// Both wait for the partner, the sale longer than its hold: at the moment of the decision both are known.
#[test]
fn what_is_resumed_together_is_known_together() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.enroll(campaign(1), partner(4), None, None, None);
    let named = NewConversion { partner_id: Some(Named::Id(partner(4))), ..sale("1", "anna", day(0)) };
    let coded = NewConversion { code: Some(key("FOUR")), external_id: key("2"), ..sale("2", "anna", day(0)) };
    world.enroll(campaign(1), partner(5), Some("FOUR"), None, Some(day(-2)));
    world.publish_partner(partner(5), PartnerState::Applied);
    world.play(vec![
        named.into(),
        coded.into(),
        touch("1", "anna", 5, day(-1)).into(),
        touch("2", "anna", 4, day(-3)).into(),
    ]);
    assert_eq!(world.parked(), 4);
    world.clock.set(day(40));
    world.activate_partner(partner(4));
    world.activate_partner(partner(5));
    world.run();
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4));
    assert_eq!(world.credited("2"), ("attributed".to_owned(), 4), "the code is no longer in force, the touch counts");
    world.assert_verified();
}

/// The event that wakes a fact says when; a sweep that comes before the consumer has handled it would say another time.
#[test]
fn a_sweep_does_not_run_ahead_of_the_consumer() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Applied);
    world.enroll(campaign(1), partner(4), None, None, None);
    world.play(vec![touch("1", "anna", 4, day(-1)).into(), sale("1", "anna", day(0)).into()]);
    world.clock.set(day(29));
    world.activate_partner(partner(4));
    world.clock.set(day(31));
    assert_eq!((world.sweep(), world.parked()), (0, 1));
    world.run();
    assert_eq!(world.credited("1"), ("attributed".to_owned(), 4), "it became known before the hold's end");
    world.assert_verified();
}
