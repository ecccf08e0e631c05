//! Who is credited, and what changes it.

use events::campaigns::{AttributionModel, AttributionPolicy, CampaignState, TermsVersion};
use events::conversions::{Attributed, ConversionKind, ConversionState, Rule};
use events::partners::{Inactive, PartnerProfile, PartnerState};
use kernel::{Amount, Duration, Money, Reason, Timestamp};
use platform::published;

use crate::testing::{World, campaign, day, key, partner, profile, sale, terms, touch, usd, world};
use crate::{Attribute, Fact, Named, NewConversion, views};

fn attributed(by: u8) -> (String, u8) {
    ("attributed".to_owned(), by)
}

fn unattributed() -> (String, u8) {
    ("unattributed".to_owned(), 0)
}

/// Every candidate of the latest decision, as `rule partner outcome`.
fn candidates(world: &World, external_id: &str) -> Vec<String> {
    let id = world.find(external_id).id;
    let view = world.db.read(|reader| views::attribution(reader, id)).unwrap();
    let numbers: Vec<u32> = view.decisions.iter().map(|decision| decision.decision).collect();
    assert_eq!(numbers, (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(), "numbered without a gap");
    let number = |id: Option<kernel::PartnerId>| id.map_or(0, |id| id.as_bytes()[0]);
    let last = view.decisions.last().unwrap();
    last.candidates.iter().map(|c| format!("{} {} {}", c.rule, number(c.partner_id), c.outcome)).collect()
}

#[test]
fn the_first_rule_that_matches_wins_and_everybody_is_told_why() {
    let mut world = world();
    let mut click = touch("click", "other", 3, day(-2));
    click.click_id = Some(key("abc"));
    let full = |external_id: &str| NewConversion {
        partner_id: Some(Named::Id(partner(1))),
        code: Some(key("TWO")),
        click_id: Some(key("abc")),
        ..sale(external_id, "anna", day(0))
    };
    let facts: Vec<Fact> = vec![
        touch("t", "anna", 2, day(-1)).into(),
        click.into(),
        full("partner").into(),
        NewConversion { partner_id: None, ..full("code") }.into(),
        NewConversion { partner_id: None, code: None, ..full("click") }.into(),
        sale("touch", "anna", day(0)).into(),
        sale("nobody", "bert", day(0)).into(),
    ];
    world.play(facts);
    assert_eq!(world.credited("partner"), attributed(1));
    assert_eq!(
        candidates(&world, "partner"),
        ["partner 1 won", "code 2 later_rule", "click 3 later_rule", "touch 2 later_rule"]
    );
    assert_eq!(world.credited("code"), attributed(2));
    assert_eq!(world.credited("click"), attributed(3));
    assert_eq!(candidates(&world, "click"), ["click 3 won", "touch 2 later_rule"]);
    assert_eq!(world.credited("touch"), attributed(2));
    assert_eq!(world.credited("nobody"), unattributed());
    let told = world.told::<Attributed>();
    let told: Vec<Rule> = told.iter().filter(|told| told.decision == 1).map(|told| told.rule).collect();
    assert_eq!(told, [Rule::Partner, Rule::Code, Rule::Click, Rule::Touch]);
    world.assert_verified();
}

#[test]
fn who_may_not_earn_loses_and_the_next_is_tried() {
    let mut world = world();
    let inactive = vec![Inactive { from: day(-1), to: Some(day(1)) }];
    let suspended = PartnerProfile { state: PartnerState::Active, inactive };
    world.write(|tx| published::put(tx, &[(partner(1).as_bytes().as_slice(), &suspended)])).unwrap();
    world.publish_partner(partner(4), PartnerState::Active);
    world.publish_partner(partner(5), PartnerState::Rejected);
    let facts: Vec<Fact> = vec![
        touch("1", "anna", 2, day(-3)).into(),
        touch("2", "anna", 4, day(-2)).into(),
        touch("3", "anna", 5, day(-1)).into(),
        NewConversion { partner_id: Some(Named::Id(partner(1))), code: Some(key("NONE")), ..sale("1", "anna", day(0)) }
            .into(),
    ];
    world.play(facts);
    assert_eq!(world.credited("1"), attributed(2));
    let expected = [
        "partner 1 partner_not_active",
        "code 0 code_unknown",
        "touch 5 partner_not_active",
        "touch 4 partner_not_enrolled",
        "touch 2 won",
    ];
    assert_eq!(candidates(&world, "1"), expected);
    // Enrolled after the fact, without a start of its own: reaches back, and is asked again.
    world.enroll(campaign(1), partner(4), None, None, None);
    world.run();
    assert_eq!(world.credited("1"), attributed(4));
    world.enroll(campaign(1), partner(3), Some("NONE"), None, None);
    world.run();
    assert_eq!(world.credited("1"), attributed(3));
    world.assert_verified();
}

#[test]
fn a_code_needs_its_own_enrolment() {
    let mut world = world();
    world.publish_partner(partner(4), PartnerState::Active);
    world.enroll(campaign(1), partner(4), Some("OLD"), Some(day(-50)), Some(day(-10)));
    world.enroll(campaign(1), partner(4), Some("NEW"), Some(day(-10)), None);
    let coded = |external_id: &str, code: &str, at: Timestamp| -> Fact {
        NewConversion { code: Some(key(code)), ..sale(external_id, "anna", at) }.into()
    };
    let facts = vec![
        coded("1", "OLD", day(-10)),
        coded("2", "OLD", day(-11)),
        coded("3", "NEW", day(-10)),
        coded("4", "NEW", day(-11)),
        NewConversion { partner_id: Some(Named::Id(partner(4))), ..sale("5", "anna", day(-10)) }.into(),
    ];
    world.play(facts);
    let credited: Vec<u8> = ["1", "2", "3", "4", "5"].iter().map(|id| world.credited(id).1).collect();
    assert_eq!(credited, [0, 4, 4, 0, 4]);
}

#[test]
fn the_window_includes_both_its_ends() {
    let mut world = world();
    let microsecond = Duration::from_micros(1);
    let facts: Vec<Fact> = vec![
        touch("a", "at", 1, day(-1)).into(),
        sale("at", "at", day(-1)).into(),
        touch("b", "end", 1, day(-31)).into(),
        sale("end", "end", day(-1)).into(),
        sale("past", "end", day(-1).plus(microsecond)).into(),
        touch("c", "before", 1, day(-1)).into(),
        sale("before", "before", day(-1).minus(microsecond)).into(),
    ];
    world.play(facts);
    let credited: Vec<u8> = ["at", "end", "past", "before"].iter().map(|id| world.credited(id).1).collect();
    assert_eq!(credited, [1, 1, 0, 0]);
    assert_eq!(candidates(&world, "past"), ["touch 1 outside_window"]);
}

#[test]
fn ties_go_to_the_smallest_natural_key_under_both_models() {
    for model in [AttributionModel::LastTouch, AttributionModel::FirstTouch] {
        let mut world = world();
        let mut first = profile(CampaignState::Active);
        first.attribution = AttributionPolicy { model, window_days: 30 };
        world.publish_campaign(campaign(1), &first);
        let facts: Vec<Fact> = vec![
            touch("b", "anna", 1, day(-2)).into(),
            touch("a", "anna", 2, day(-2)).into(),
            touch("B", "anna", 3, day(-2)).into(),
            sale("1", "anna", day(0)).into(),
            touch("x", "bert", 1, day(-3)).into(),
            touch("y", "bert", 2, day(-1)).into(),
            sale("2", "bert", day(0)).into(),
        ];
        world.play(facts);
        assert_eq!(world.credited("1").1, 3, "upper case comes before lower case");
        assert_eq!(world.credited("2").1, if model == AttributionModel::LastTouch { 2 } else { 1 });
    }
}

#[test]
fn an_unnamed_campaign_is_that_of_the_code_the_click_or_the_latest_touch() {
    let mut world = world();
    let short = |days| AttributionPolicy { model: AttributionModel::FirstTouch, window_days: days };
    for (number, days) in [(2, 30), (3, 1)] {
        let policy = events::campaigns::CampaignProfile { attribution: short(days), ..profile(CampaignState::Active) };
        world.publish_campaign(campaign(number), &policy);
        for partner_number in [1, 2, 3] {
            world.enroll(campaign(number), partner(partner_number), None, None, None);
        }
    }
    let in_campaign = |number: u8, fact: crate::NewTouch| -> Fact {
        crate::NewTouch { campaign_id: Named::Id(campaign(number)), ..fact }.into()
    };
    let unnamed = |external_id: &str| NewConversion { campaign_id: None, ..sale(external_id, "anna", day(0)) };
    let facts = vec![
        in_campaign(1, touch("1", "anna", 1, day(-9))),
        in_campaign(2, touch("2", "anna", 2, day(-8))),
        in_campaign(2, touch("3", "anna", 3, day(-7))),
        in_campaign(3, touch("4", "anna", 1, day(-2))),
        unnamed("touch").into(),
        NewConversion { code: Some(key("ONE")), ..unnamed("code") }.into(),
        NewConversion { partner_id: Some(Named::Id(partner(1))), ..unnamed("partner") }.into(),
        NewConversion { partner_id: Some(Named::Id(partner(1))), customer_ref: None, ..unnamed("none") }.into(),
    ];
    world.play(facts);
    let decided = |external_id: &str| {
        let view = world.find(external_id);
        (view.campaign_id.map_or(0, |id| id.as_bytes()[0] - 100), world.credited(external_id).1)
    };
    // The latest touch in its own window is of campaign 2, whose model then credits the first.
    assert_eq!(decided("touch"), (2, 2));
    assert_eq!(decided("code"), (1, 1));
    assert_eq!(decided("partner"), (2, 1));
    assert_eq!(decided("none"), (0, 0));
    assert_eq!(candidates(&world, "none"), ["partner 1 campaign_unknown"]);
    world.assert_verified();
}

#[test]
fn a_late_touch_changes_the_partner_until_the_hold_is_over() {
    let mut world = world();
    world.play(vec![sale("1", "anna", day(0)).into()]);
    assert_eq!(world.credited("1"), unattributed());
    world.play(vec![touch("1", "anna", 1, day(-5)).into()]);
    assert_eq!(world.credited("1"), attributed(1));
    world.clock.set(Timestamp::from_micros(day(30).as_micros() - 1));
    world.play(vec![touch("2", "anna", 2, day(-4)).into(), touch("older", "anna", 3, day(-6)).into()]);
    assert_eq!(world.credited("1"), attributed(2));
    world.clock.set(day(30));
    world.play(vec![touch("3", "anna", 3, day(-3)).into()]);
    assert_eq!(world.credited("1"), attributed(2));
    assert_eq!(world.find("1").decision, 3, "what changes nothing is no decision");
    world.assert_verified();
}

#[test]
fn an_earlier_purchase_that_comes_late_takes_the_first_purchase_before_it_is_told() {
    let mut world = world();
    let coded = |external_id: &str, at: Timestamp| -> Fact {
        NewConversion { code: Some(key("ONE")), ..sale(external_id, "anna", at) }.into()
    };
    world.play(vec![coded("b", day(-1))]);
    world.play(vec![coded("c", day(0)), coded("a", day(-2))]);
    let told: Vec<(kernel::ConversionId, u32, bool)> =
        world.told::<Attributed>().iter().map(|t| (t.conversion_id, t.decision, t.first_purchase)).collect();
    let id = |external_id: &str| world.find(external_id).id;
    assert_eq!(told, [(id("b"), 1, true), (id("c"), 1, false), (id("b"), 2, false), (id("a"), 1, true)]);
    world.assert_verified();
    // After the hold the first one keeps it, and the earlier one says so all the same.
    world.clock.set(day(31));
    world.play(vec![coded("0", day(-3))]);
    let last = world.told::<Attributed>().pop().unwrap();
    assert_eq!((last.conversion_id, last.first_purchase), (world.find("0").id, true));
    assert_eq!(world.find("a").decision, 1);
    world.assert_verified();
}

#[test]
fn first_purchases_skip_leads_strangers_and_rejected_sales() {
    let mut world = world();
    let mut paused = profile(CampaignState::Active);
    paused.pauses = vec![Inactive { from: day(-10), to: Some(day(-9)) }];
    world.publish_campaign(campaign(1), &paused);
    let coded = |fact: NewConversion| -> Fact { NewConversion { code: Some(key("ONE")), ..fact }.into() };
    let facts = vec![
        coded(NewConversion { kind: ConversionKind::Lead, ..sale("lead", "anna", day(-5)) }),
        coded(sale("paused", "anna", day(-10))),
        coded(NewConversion { customer_ref: None, ..sale("stranger", "anna", day(-5)) }),
        coded(sale("first", "anna", day(-4))),
        // An earlier sale counts as the first although nobody is credited and it was worth nothing.
        NewConversion { amount: usd(0), ..sale("free", "bert", day(-5)) }.into(),
        coded(sale("second", "bert", day(-4))),
    ];
    world.play(facts);
    let first = |external_id: &str| {
        let id = world.find(external_id).id;
        world.told::<Attributed>().iter().rev().find(|told| told.conversion_id == id).map(|told| told.first_purchase)
    };
    assert_eq!(first("lead"), Some(false));
    assert_eq!(first("paused"), None);
    assert_eq!(first("stranger"), Some(false));
    assert_eq!(first("first"), Some(true));
    assert_eq!(first("second"), Some(false));
    let view = world.find("paused");
    assert_eq!((view.state, view.reason.as_deref()), (ConversionState::Rejected, Some("campaign_paused")));
    world.assert_verified();
}

#[test]
fn a_first_purchase_that_moves_to_another_campaign_hands_it_on() {
    let mut world = world();
    world.publish_campaign(campaign(2), &profile(CampaignState::Active));
    world.enroll(campaign(2), partner(2), None, None, None);
    let unnamed = |external_id: &str, at: Timestamp| -> Fact {
        NewConversion { campaign_id: None, ..sale(external_id, "anna", at) }.into()
    };
    world.play(vec![touch("1", "anna", 1, day(-20)).into(), unnamed("a", day(-10)), unnamed("b", day(-1))]);
    assert_eq!(world.told::<Attributed>().iter().map(|t| t.first_purchase).collect::<Vec<_>>(), [true, false]);
    let other = crate::NewTouch { campaign_id: Named::Id(campaign(2)), ..touch("2", "anna", 2, day(-11)) };
    world.play(vec![other.into(), touch("3", "anna", 1, day(-9)).into()]);
    let told = world.told::<Attributed>();
    let last: Vec<_> = told.iter().map(|t| (t.campaign_id.as_bytes()[0] - 100, t.first_purchase)).collect();
    // a moves to campaign 2 and is first there; b follows it, as the second; then comes b's own touch in campaign 1.
    assert_eq!(last[2], (2, true));
    assert_eq!(last.last(), Some(&(1, true)));
    assert_eq!(world.find("a").campaign_id, Some(campaign(2)));
    assert_eq!(world.find("b").campaign_id, Some(campaign(1)));
    world.assert_verified();
}

#[test]
fn outside_its_dates_or_in_another_currency_a_conversion_is_rejected() {
    let mut world = world();
    let mut ended = profile(CampaignState::Completed);
    ended.ends_at = Some(day(-1));
    world.publish_campaign(campaign(1), &ended);
    let euros = Amount::new(Money::new(1, "EUR".parse().unwrap())).unwrap();
    let facts: Vec<Fact> = vec![
        sale("end", "anna", day(-1)).into(),
        sale("before", "anna", day(-101)).into(),
        sale("in", "anna", Timestamp::from_micros(day(-1).as_micros() - 1)).into(),
        NewConversion { campaign_id: None, code: Some(key("ONE")), amount: euros, ..sale("euros", "anna", day(-2)) }
            .into(),
    ];
    world.play(facts);
    let reason = |external_id: &str| world.find(external_id).reason;
    assert_eq!(reason("end").as_deref(), Some("outside_campaign"));
    assert_eq!(reason("before").as_deref(), Some("outside_campaign"));
    assert_eq!(reason("in"), None);
    assert_eq!(reason("euros").as_deref(), Some("currency_mismatch"));
    world.assert_verified();
}

#[test]
fn an_operator_attributes_for_good_and_only_to_who_could_earn() {
    let mut world = world();
    world.play(vec![touch("1", "anna", 1, day(-5)).into(), sale("1", "anna", day(0)).into()]);
    let id = world.find("1").id;
    let attribute = |by: u8, campaign_number: Option<u8>| Attribute {
        partner_id: partner(by),
        campaign_id: campaign_number.map(campaign),
        reason: Reason::new("agreed by phone").unwrap(),
    };
    let fault = world.write(|tx| attribute(9, None).run(tx, id)).unwrap_err();
    assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("not_creditable", "/partner_id"));
    let fault = world.write(|tx| attribute(2, Some(9)).run(tx, id)).unwrap_err();
    assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("not_creditable", "/campaign_id"));
    let view = world.write(|tx| attribute(2, None).run(tx, id)).unwrap();
    assert_eq!((view.partner_id, view.decision), (Some(partner(2)), 2));
    assert_eq!(view.reason.as_deref(), Some("agreed by phone"));
    let again = world.write(|tx| attribute(2, None).run(tx, id)).unwrap();
    assert_eq!(again, view);
    world.play(vec![touch("2", "anna", 3, day(-1)).into(), sale("0", "anna", day(-2)).into()]);
    assert_eq!(world.credited("1"), attributed(2));
    let told = world.told::<Attributed>();
    assert!(told.iter().all(|told| told.conversion_id != id || told.decision == 1 || told.rule == Rule::Operator));
    let last = told.iter().rfind(|told| told.conversion_id == id).unwrap();
    assert!(!last.first_purchase, "the earlier sale takes the first purchase, not the partner");
    assert!(world.log().iter().all(|event| !event.payload.contains("phone")));
    world.play(vec![sale("early", "anna", day(-101)).into()]);
    let rejected = world.find("early").id;
    let fault = world.write(|tx| attribute(2, None).run(tx, rejected)).unwrap_err();
    assert_eq!(fault.code(), "illegal_transition");
    world.assert_verified();
}

#[test]
fn one_off_terms_travel_with_the_decision_and_set_its_automatic_time() {
    let mut world = world();
    let mut ten = profile(CampaignState::Active);
    ten.terms = vec![TermsVersion { version: 1, valid_from: day(-100), published_at: day(-100), terms: terms(10) }];
    world.publish_campaign(campaign(1), &ten);
    let one_off = NewConversion { terms: Some(terms(20)), ..sale("1", "anna", day(0)) };
    world.play(vec![touch("1", "anna", 1, day(-5)).into(), one_off.into(), sale("2", "anna", day(0)).into()]);
    let told = world.told::<Attributed>();
    assert_eq!(told.iter().map(|t| t.terms.clone()).collect::<Vec<_>>(), [Some(terms(20)), None]);
    world.clock.set(day(15));
    world.play(vec![touch("2", "anna", 2, day(-4)).into()]);
    assert_eq!((world.credited("1").1, world.credited("2").1), (2, 1));
}
