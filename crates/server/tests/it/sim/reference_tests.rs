//! The reference model against results computed by hand, rule by rule.
//!
//! The world of most tests: campaign `c` in USD from day 0, last touch, window 30 days; 10.00 % without a cap, hold 30 days,
//! automatic approval up to 10.00; partners `p`, `q`, `r`, enrolled with the codes `P`, `Q`, `R`. Days stand for times.

use super::reference::*;
use super::reference_money::{RefundOutcome, ratio_half_up};

const DAY: i64 = 86_400_000_000;

fn key(external_id: &str) -> Key {
    ("shop".to_owned(), external_id.to_owned())
}

fn text(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn component(rate: Rate) -> Component {
    Component { rate, kinds: vec![], category: None, minimum_minor: None }
}

fn terms(version: i64, valid_from_day: i64, components: Vec<Component>) -> Terms {
    Terms {
        version,
        valid_from: valid_from_day * DAY,
        components,
        cap_minor: None,
        hold_micros: 30 * DAY,
        auto_approve_up_to_minor: 1_000,
    }
}

fn campaign(id: &str) -> Campaign {
    Campaign {
        id: id.to_owned(),
        draft: false,
        currency: "USD".to_owned(),
        starts_at: 0,
        ends_at: None,
        closed_at: None,
        pauses: vec![],
        model: Model::Last,
        window_micros: 30 * DAY,
        terms: vec![terms(1, 0, vec![component(Rate::PercentBasisPoints(1_000))])],
    }
}

fn partner(id: &str) -> Partner {
    Partner { id: id.to_owned(), state: PartnerState::Activated, suspensions: vec![], terminated_at: None }
}

fn enrollment(partner: &str, campaign: &str, code: &str) -> Enrollment {
    Enrollment { partner: partner.to_owned(), campaign: campaign.to_owned(), code: text(code), from: None, to: None }
}

fn world() -> World {
    World {
        campaigns: vec![campaign("c")],
        partners: ["p", "q", "r"].map(partner).to_vec(),
        enrollments: [("p", "P"), ("q", "Q"), ("r", "R")].map(|(id, code)| enrollment(id, "c", code)).to_vec(),
        ..World::default()
    }
}

/// A sale of customer `ann` in campaign `c`, recorded on day 100, that names nobody.
fn sale(external_id: &str, day: i64, amount_minor: i64) -> Conversion {
    Conversion {
        key: key(external_id),
        kind: Kind::Sale,
        category: None,
        campaign: text("c"),
        partner: None,
        code: None,
        click_id: None,
        customer_ref: text("ann"),
        occurred_at: day * DAY,
        recorded_at: 100 * DAY,
        amount_minor,
        currency: "USD".to_owned(),
    }
}

/// The same, naming partner `p`.
fn sale_of_p(external_id: &str, day: i64, amount_minor: i64) -> Conversion {
    Conversion { partner: text("p"), ..sale(external_id, day, amount_minor) }
}

fn touch(external_id: &str, partner: &str, day: i64) -> Touch {
    Touch {
        key: key(external_id),
        campaign: "c".to_owned(),
        partner: partner.to_owned(),
        customer_ref: "ann".to_owned(),
        click_id: None,
        occurred_at: day * DAY,
    }
}

fn refund(external_id: &str, sale: &str, amount_minor: Option<i64>) -> Refund {
    Refund {
        key: key(external_id),
        conversion_source: None,
        conversion_external_id: sale.to_owned(),
        kind: RefundKind::Refund,
        amount: amount_minor.map(|amount_minor| (amount_minor, "USD".to_owned())),
        recorded_at: 100 * DAY,
    }
}

fn result(world: &World, external_id: &str) -> ConversionOutcome {
    evaluate(world).conversions[&key(external_id)].clone()
}

fn decision(world: &World, external_id: &str) -> Decision {
    result(world, external_id).decision
}

fn commission(world: &World, external_id: &str) -> Commission {
    result(world, external_id).commission.expect("this conversion earns")
}

fn gross_minor(world: &World, external_id: &str) -> i64 {
    commission(world, external_id).gross_minor
}

fn kept_minor(world: &World, external_id: &str) -> i64 {
    commission(world, external_id).kept_minor
}

fn credited(partner: &str, by: Matched) -> Decision {
    Decision::Attributed { partner: partner.to_owned(), by }
}

/// Who is credited for one sale `s` of `ann` on the given day, after these touches.
fn credited_after(world: World, day: i64, touches: Vec<Touch>) -> Decision {
    decision(&World { touches, conversions: vec![sale("s", day, 1_000)], ..world }, "s")
}

/// What a sale by `p` of this amount earns under these terms.
fn earned(terms: Terms, conversion: Conversion) -> Option<i64> {
    let mut world = World { conversions: vec![conversion], ..world() };
    world.campaigns[0].terms = vec![terms];
    let external_id = world.conversions[0].key.1.clone();
    result(&world, &external_id).commission.map(|commission| commission.gross_minor)
}

/// A world with one sale by `p` and these refunds of it; the gross is 10 % of the amount.
fn refunded(amount_minor: i64, refunds: Vec<Refund>) -> World {
    World { conversions: vec![sale_of_p("s", 1, amount_minor)], refunds, ..world() }
}

// R1, R3: parked facts

#[test]
fn a_conversion_that_names_an_unknown_campaign_or_partner_is_parked() {
    let elsewhere = Conversion { campaign: text("nowhere"), ..sale_of_p("a", 1, 1_000) };
    let stranger = Conversion { partner: text("nobody"), ..sale("b", 1, 1_000) };
    let world = World { conversions: vec![elsewhere, stranger], ..world() };
    assert_eq!(decision(&world, "a"), Decision::Parked);
    assert_eq!(decision(&world, "b"), Decision::Parked);
}

#[test]
fn a_conversion_for_a_draft_campaign_is_parked_and_so_is_its_refund() {
    let mut world = refunded(1_000, vec![refund("f", "s", None)]);
    world.campaigns[0].draft = true;
    let outcome = evaluate(&world);
    assert_eq!(outcome.conversions[&key("s")].decision, Decision::Parked);
    assert_eq!(outcome.refunds[&key("f")], RefundOutcome::Parked);
    assert!(outcome.balances.is_empty());
}

#[test]
fn a_conversion_for_an_applied_partner_is_parked_by_name_and_by_code() {
    let by_code = Conversion { code: text("P"), ..sale("b", 1, 1_000) };
    let mut world = World { conversions: vec![sale_of_p("a", 1, 1_000), by_code], ..world() };
    world.partners[0].state = PartnerState::Applied;
    assert_eq!(decision(&world, "a"), Decision::Parked);
    assert_eq!(decision(&world, "b"), Decision::Parked);
}

#[test]
fn the_touch_of_an_applied_partner_waits_and_the_next_touch_is_tried() {
    let mut world = world();
    world.partners[1].state = PartnerState::Applied;
    let touches = vec![touch("1", "p", 1), touch("2", "q", 2)];
    assert_eq!(credited_after(world, 3, touches), credited("p", Matched::Touch));
}

#[test]
fn a_refund_of_an_unknown_sale_is_parked() {
    let world = World { refunds: vec![refund("f", "missing", None)], ..world() };
    assert_eq!(evaluate(&world).refunds[&key("f")], RefundOutcome::Parked);
}

// R3: who may earn

#[test]
fn the_campaigns_start_is_inside_and_its_end_is_outside() {
    let mut world = World { conversions: vec![sale_of_p("a", 1, 1_000), sale_of_p("b", 9, 1_000)], ..world() };
    world.conversions.push(Conversion { occurred_at: 9 * DAY - 1, ..sale_of_p("c", 0, 1_000) });
    world.conversions.push(Conversion { occurred_at: DAY - 1, ..sale_of_p("d", 0, 1_000) });
    world.campaigns[0].starts_at = DAY;
    world.campaigns[0].ends_at = Some(9 * DAY);
    assert_eq!(decision(&world, "a"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "b"), Decision::Rejected("outside_campaign"));
    assert_eq!(decision(&world, "c"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "d"), Decision::Rejected("outside_campaign"));
}

#[test]
fn a_completed_campaign_keeps_what_happened_before() {
    let mut world = World { conversions: vec![sale_of_p("a", 4, 1_000), sale_of_p("b", 5, 1_000)], ..world() };
    world.campaigns[0].closed_at = Some(5 * DAY);
    assert_eq!(decision(&world, "a"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "b"), Decision::Rejected("outside_campaign"));
}

#[test]
fn a_pause_counts_from_its_instant_to_before_its_end() {
    let conversions = (2..6).map(|day| sale_of_p(&day.to_string(), day, 1_000)).collect();
    let mut world = World { conversions, ..world() };
    world.campaigns[0].pauses = vec![Span { from: 3 * DAY, to: Some(5 * DAY) }];
    assert_eq!(decision(&world, "2"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "3"), Decision::Rejected("campaign_paused"));
    assert_eq!(decision(&world, "4"), Decision::Rejected("campaign_paused"));
    assert_eq!(decision(&world, "5"), credited("p", Matched::Partner));
}

#[test]
fn another_currency_is_rejected_and_earns_nothing() {
    let euros = Conversion { currency: "EUR".to_owned(), ..sale_of_p("a", 1, 1_000) };
    let world = World { conversions: vec![euros], ..world() };
    assert_eq!(decision(&world, "a"), Decision::Rejected("currency_mismatch"));
    assert_eq!(result(&world, "a").commission, None);
}

#[test]
fn an_inactive_partner_falls_through_partner_code_click_and_touch() {
    let mut world = world();
    world.partners[0].suspensions = vec![Span { from: 2 * DAY, to: Some(20 * DAY) }];
    world.partners[1].terminated_at = Some(2 * DAY);
    world.partners.push(Partner { state: PartnerState::Rejected, ..partner("never") });
    world.enrollments.push(enrollment("never", "c", "N"));
    let clicked = |partner| Touch { click_id: text("k"), ..touch(partner, partner, 1) };
    world.touches = vec![clicked("never"), clicked("q"), touch("t", "r", 0)];
    let all = Conversion { code: text("Q"), click_id: text("k"), ..sale_of_p("s", 3, 1_000) };
    world.conversions = vec![all];
    assert_eq!(decision(&world, "s"), credited("r", Matched::Touch));
}

#[test]
fn what_was_earned_before_a_suspension_is_still_credited() {
    let mut world = World { conversions: vec![sale_of_p("a", 1, 1_000), sale_of_p("b", 2, 1_000)], ..world() };
    world.partners[0].suspensions = vec![Span { from: 2 * DAY, to: Some(3 * DAY) }];
    assert_eq!(decision(&world, "a"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "b"), Decision::Unattributed);
}

#[test]
fn a_termination_counts_from_its_instant() {
    let mut world = World { conversions: vec![sale_of_p("a", 2, 1_000), sale_of_p("b", 3, 1_000)], ..world() };
    world.partners[0].terminated_at = Some(3 * DAY);
    assert_eq!(decision(&world, "a"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "b"), Decision::Unattributed);
}

#[test]
fn a_partner_that_is_not_enrolled_loses_by_name_and_by_touch() {
    let mut world = World { conversions: vec![sale_of_p("s", 3, 1_000)], ..world() };
    world.touches = vec![touch("1", "q", 1), touch("2", "p", 2)];
    world.enrollments.remove(0);
    assert_eq!(decision(&world, "s"), credited("q", Matched::Touch));
}

#[test]
fn an_enrolment_counts_from_its_from_to_before_its_to_and_its_code_with_it() {
    let with_code = |external_id: &str, day| Conversion { code: text("P"), ..sale(external_id, day, 1_000) };
    let mut world = World { conversions: (1..5).map(|day| with_code(&day.to_string(), day)).collect(), ..world() };
    (world.enrollments[0].from, world.enrollments[0].to) = (Some(2 * DAY), Some(4 * DAY));
    world.enrollments.push(Enrollment { from: Some(4 * DAY), ..enrollment("p", "c", "NEW") });
    assert_eq!(decision(&world, "1"), Decision::Unattributed);
    assert_eq!(decision(&world, "2"), credited("p", Matched::Code));
    assert_eq!(decision(&world, "3"), credited("p", Matched::Code));
    // Enrolled again, but the old code went with its enrolment.
    assert_eq!(decision(&world, "4"), Decision::Unattributed);
}

// R4: attribution

#[test]
fn precedence_is_partner_then_code_then_click_then_touch() {
    let touches = vec![touch("1", "r", 2), Touch { click_id: text("k"), ..touch("2", "q", 1) }];
    let click = Conversion { click_id: text("k"), ..sale("click", 3, 1_000) };
    let code = Conversion { key: key("code"), code: text("R"), ..click.clone() };
    let explicit = Conversion { key: key("partner"), partner: text("p"), ..code.clone() };
    let conversions = vec![sale("touch", 3, 1_000), click, code, explicit];
    let world = World { touches, conversions, ..world() };
    assert_eq!(decision(&world, "partner"), credited("p", Matched::Partner));
    assert_eq!(decision(&world, "code"), credited("r", Matched::Code));
    assert_eq!(decision(&world, "click"), credited("q", Matched::ClickId));
    assert_eq!(decision(&world, "touch"), credited("r", Matched::Touch));
}

#[test]
fn an_unknown_code_or_click_id_falls_through() {
    let unknown = Conversion { code: text("X"), click_id: text("x"), ..sale("s", 3, 1_000) };
    let world = World { touches: vec![touch("1", "q", 1)], conversions: vec![unknown], ..world() };
    assert_eq!(decision(&world, "s"), credited("q", Matched::Touch));
}

#[test]
fn last_and_first_touch() {
    let touches = || vec![touch("1", "p", 1), touch("2", "q", 5), touch("3", "r", 3)];
    assert_eq!(credited_after(world(), 9, touches()), credited("q", Matched::Touch));
    let mut first = world();
    first.campaigns[0].model = Model::First;
    assert_eq!(credited_after(first, 9, touches()), credited("p", Matched::Touch));
}

#[test]
fn touches_at_one_instant_go_to_the_smallest_source_and_external_id() {
    let mut first = world();
    first.campaigns[0].model = Model::First;
    // Bytewise "10" < "9", and every upper-case letter before every lower-case one.
    for world in [world(), first] {
        let touches = vec![touch("9", "p", 1), touch("10", "q", 1)];
        assert_eq!(credited_after(world.clone(), 2, touches), credited("q", Matched::Touch));
        let touches = vec![touch("1", "p", 1), Touch { key: ("Shop".into(), "2".into()), ..touch("", "r", 1) }];
        assert_eq!(credited_after(world, 2, touches), credited("r", Matched::Touch));
    }
}

#[test]
fn both_ends_of_the_window_are_inside() {
    let at = |micros| Touch { occurred_at: micros, ..touch("1", "p", 0) };
    let p = credited("p", Matched::Touch);
    assert_eq!(credited_after(world(), 40, vec![at(10 * DAY)]), p);
    assert_eq!(credited_after(world(), 40, vec![at(10 * DAY - 1)]), Decision::Unattributed);
    assert_eq!(credited_after(world(), 40, vec![at(40 * DAY)]), p);
    assert_eq!(credited_after(world(), 40, vec![at(40 * DAY + 1)]), Decision::Unattributed);
}

#[test]
fn the_window_bounds_click_ids_too() {
    let clicked = Touch { click_id: text("k"), customer_ref: "bob".to_owned(), ..touch("1", "p", 1) };
    let with_click = |id: &str, day| Conversion { click_id: text("k"), customer_ref: None, ..sale(id, day, 1_000) };
    let conversions = vec![with_click("in", 31), with_click("out", 32)];
    let world = World { touches: vec![clicked], conversions, ..world() };
    assert_eq!(decision(&world, "in"), credited("p", Matched::ClickId));
    assert_eq!(decision(&world, "out"), Decision::Unattributed);
}

#[test]
fn touches_of_other_customers_and_other_campaigns_do_not_match() {
    let mut world = world();
    world.campaigns.push(campaign("d"));
    world.enrollments.push(enrollment("q", "d", "Q2"));
    let other_customer = Touch { customer_ref: "bob".to_owned(), ..touch("1", "p", 1) };
    let other_campaign = Touch { campaign: "d".to_owned(), ..touch("2", "q", 1) };
    assert_eq!(credited_after(world, 2, vec![other_customer, other_campaign]), Decision::Unattributed);
}

#[test]
fn a_code_of_another_campaign_than_the_named_one_loses() {
    let mut world = world();
    world.campaigns.push(campaign("d"));
    world.enrollments.push(enrollment("q", "d", "Q2"));
    world.conversions = vec![Conversion { code: text("Q2"), ..sale("s", 1, 1_000) }];
    assert_eq!(decision(&world, "s"), Decision::Unattributed);
}

#[test]
fn a_touch_before_the_campaign_or_in_its_pause_does_not_count() {
    let mut world = world();
    world.campaigns[0].starts_at = 2 * DAY;
    world.campaigns[0].pauses = vec![Span { from: 4 * DAY, to: Some(5 * DAY) }];
    let touches = vec![touch("1", "p", 1), touch("2", "q", 4)];
    assert_eq!(credited_after(world.clone(), 6, touches), Decision::Unattributed);
    assert_eq!(credited_after(world, 6, vec![touch("3", "r", 3)]), credited("r", Matched::Touch));
}

#[test]
fn an_unnamed_campaign_is_that_of_the_code_then_of_the_click_then_of_the_latest_touch() {
    let mut world = world();
    world.campaigns.push(campaign("d"));
    world.enrollments.push(enrollment("q", "d", "Q2"));
    let in_d = Touch { campaign: "d".to_owned(), click_id: text("k"), ..touch("1", "q", 1) };
    world.touches = vec![in_d, touch("2", "p", 2)];
    let unnamed = |external_id| Conversion { campaign: None, ..sale(external_id, 3, 1_000) };
    world.conversions = vec![
        Conversion { code: text("Q2"), click_id: None, ..unnamed("code") },
        Conversion { click_id: text("k"), ..unnamed("click") },
        unnamed("touch"),
        Conversion { partner: text("r"), code: text("P"), ..unnamed("explicit") },
        Conversion { partner: text("r"), customer_ref: None, ..unnamed("alone") },
    ];
    let campaign_of = |external_id| result(&world, external_id).campaign;
    assert_eq!((campaign_of("code"), decision(&world, "code")), (text("d"), credited("q", Matched::Code)));
    assert_eq!((campaign_of("click"), decision(&world, "click")), (text("d"), credited("q", Matched::ClickId)));
    assert_eq!((campaign_of("touch"), decision(&world, "touch")), (text("c"), credited("p", Matched::Touch)));
    // The code names the campaign, the partner still comes first.
    assert_eq!((campaign_of("explicit"), decision(&world, "explicit")), (text("c"), credited("r", Matched::Partner)));
    assert_eq!((campaign_of("alone"), decision(&world, "alone")), (None, Decision::Unattributed));
}

#[test]
fn an_unnamed_campaign_that_is_a_draft_parks_by_its_code_but_its_touches_wait() {
    let mut world = world();
    world.campaigns.push(Campaign { draft: true, ..campaign("d") });
    world.enrollments.push(enrollment("q", "d", "Q2"));
    world.touches = vec![touch("1", "p", 1), Touch { campaign: "d".to_owned(), ..touch("2", "q", 2) }];
    let by_touch = Conversion { campaign: None, ..sale("touch", 3, 1_000) };
    world.conversions = vec![Conversion { key: key("code"), code: text("Q2"), ..by_touch.clone() }, by_touch];
    assert_eq!(decision(&world, "code"), Decision::Parked);
    assert_eq!(decision(&world, "touch"), credited("p", Matched::Touch));
}

// R5: commission

#[test]
fn percent_is_rounded_half_up() {
    let ten_percent = || terms(1, 0, vec![component(Rate::PercentBasisPoints(1_000))]);
    for (amount_minor, expected) in [(4, None), (5, Some(1)), (14, Some(1)), (15, Some(2)), (1_005, Some(101))] {
        assert_eq!(earned(ten_percent(), sale_of_p("s", 1, amount_minor)), expected, "of {amount_minor}");
    }
    assert_eq!(ratio_half_up(i64::MAX, 10_000, 10_000), i64::MAX);
}

#[test]
fn components_add_up_and_the_cap_comes_last() {
    let rates = [Rate::PercentBasisPoints(800), Rate::FlatMinor(25), Rate::FirstPurchaseBonusMinor(150)];
    let capped = Terms { cap_minor: Some(2_500), ..terms(1, 0, rates.map(component).to_vec()) };
    // 8 % of 12.34 = 0.9872 → 0.99; 0.99 + 0.25 + 1.50
    assert_eq!(earned(capped.clone(), sale_of_p("s", 1, 1_234)), Some(274));
    // 8 % of 290.62 = 23.2496 → 23.25, and 1.75 is exactly the cap; one dollar more is cut.
    assert_eq!(earned(capped.clone(), sale_of_p("s", 1, 29_062)), Some(2_500));
    assert_eq!(earned(capped, sale_of_p("s", 1, 29_162)), Some(2_500));
}

#[test]
fn conditions_on_kind_category_and_minimum() {
    let flat = Component {
        kinds: vec![Kind::Lead, Kind::Click],
        category: text("shoes"),
        minimum_minor: Some(500),
        ..component(Rate::FlatMinor(70))
    };
    let terms = terms(1, 0, vec![flat]);
    let lead = Conversion { kind: Kind::Lead, category: text("shoes"), ..sale_of_p("s", 1, 500) };
    assert_eq!(earned(terms.clone(), lead.clone()), Some(70));
    assert_eq!(earned(terms.clone(), Conversion { kind: Kind::Click, ..lead.clone() }), Some(70));
    assert_eq!(earned(terms.clone(), Conversion { kind: Kind::Sale, ..lead.clone() }), None);
    assert_eq!(earned(terms.clone(), Conversion { category: text("hats"), ..lead.clone() }), None);
    assert_eq!(earned(terms.clone(), Conversion { category: None, ..lead.clone() }), None);
    assert_eq!(earned(terms, Conversion { amount_minor: 499, ..lead }), None);
}

#[test]
fn the_terms_in_force_at_the_event_time_count() {
    let mut world = World { conversions: vec![sale_of_p("old", 4, 1_000), sale_of_p("new", 5, 1_000)], ..world() };
    let six_percent = vec![component(Rate::PercentBasisPoints(600))];
    world.campaigns[0].terms.push(terms(2, 5, six_percent));
    let (old, new) = (commission(&world, "old"), commission(&world, "new"));
    assert_eq!((old.terms_version, old.gross_minor), (1, 100));
    assert_eq!((new.terms_version, new.gross_minor), (2, 60));
}

#[test]
fn before_the_first_terms_nothing_is_earned_and_the_higher_version_wins_a_tie() {
    let mut world = World { conversions: vec![sale_of_p("early", 1, 1_000), sale_of_p("late", 2, 1_000)], ..world() };
    let percent = |basis_points| vec![component(Rate::PercentBasisPoints(basis_points))];
    world.campaigns[0].terms = vec![terms(2, 2, percent(700)), terms(1, 2, percent(600))];
    assert_eq!(decision(&world, "early"), credited("p", Matched::Partner));
    assert_eq!(result(&world, "early").commission, None);
    assert_eq!(commission(&world, "late").terms_version, 2);
}

#[test]
fn a_sale_of_zero_is_attributed_earns_no_percent_but_may_earn_flat() {
    let world = World { conversions: vec![sale_of_p("s", 1, 0)], ..world() };
    assert_eq!(decision(&world, "s"), credited("p", Matched::Partner));
    assert_eq!(result(&world, "s").commission, None);
    assert_eq!(earned(terms(1, 0, vec![component(Rate::FlatMinor(30))]), sale_of_p("s", 1, 0)), Some(30));
}

/// 10 % and a bonus of 5.00 from 10.00.
fn bonus_world(conversions: Vec<Conversion>) -> World {
    let bonus = Component { minimum_minor: Some(1_000), ..component(Rate::FirstPurchaseBonusMinor(500)) };
    let mut world = World { conversions, ..world() };
    world.campaigns[0].terms = vec![terms(1, 0, vec![component(Rate::PercentBasisPoints(1_000)), bonus])];
    world
}

#[test]
fn the_bonus_moves_when_an_earlier_purchase_arrives() {
    let mut world = bonus_world(vec![sale_of_p("b", 5, 1_000)]);
    assert_eq!(gross_minor(&world, "b"), 600);
    assert!(commission(&world, "b").bonus_earned);
    world.conversions.push(sale_of_p("a", 4, 2_000));
    assert_eq!((gross_minor(&world, "a"), gross_minor(&world, "b")), (700, 100));
    assert!(commission(&world, "a").bonus_earned && !commission(&world, "b").bonus_earned);
}

#[test]
fn a_small_unattributed_or_worthless_first_purchase_uses_the_bonus_up() {
    let second = || sale_of_p("second", 5, 1_000);
    for first in [sale_of_p("first", 4, 999), sale("first", 4, 2_000), sale_of_p("first", 4, 0)] {
        assert_eq!(gross_minor(&bonus_world(vec![second(), first]), "second"), 100);
    }
    // A rejected sale, a lead, another customer's sale and a parked sale are no first purchase of ann's.
    for first in [
        Conversion { currency: "EUR".to_owned(), ..sale_of_p("first", 4, 2_000) },
        Conversion { kind: Kind::Lead, ..sale_of_p("first", 4, 2_000) },
        Conversion { customer_ref: text("bob"), ..sale_of_p("first", 4, 2_000) },
        Conversion { partner: text("nobody"), ..sale("first", 4, 2_000) },
    ] {
        assert_eq!(gross_minor(&bonus_world(vec![second(), first]), "second"), 600);
    }
}

#[test]
fn first_purchases_at_one_instant_go_by_key_and_without_customer_there_is_none() {
    let world = bonus_world(vec![sale_of_p("9", 5, 1_000), sale_of_p("10", 5, 1_000)]);
    assert_eq!((gross_minor(&world, "9"), gross_minor(&world, "10")), (100, 600));
    let anonymous = Conversion { customer_ref: None, ..sale_of_p("s", 5, 1_000) };
    assert_eq!(gross_minor(&bonus_world(vec![anonymous]), "s"), 100);
}

#[test]
fn each_campaign_has_its_own_first_purchase_also_when_it_was_not_named() {
    let unnamed = Conversion { campaign: None, code: text("P2"), ..sale("in d", 4, 1_000) };
    let mut world = bonus_world(vec![sale_of_p("in c", 5, 1_000), unnamed]);
    world.campaigns.push(Campaign { id: "d".to_owned(), ..world.campaigns[0].clone() });
    world.enrollments.push(enrollment("p", "d", "P2"));
    assert_eq!((gross_minor(&world, "in c"), gross_minor(&world, "in d")), (600, 600));
    world.conversions.push(sale_of_p("earlier in c", 3, 1_000));
    assert_eq!((gross_minor(&world, "in c"), gross_minor(&world, "in d")), (100, 600));
}

// R6: refunds

#[test]
fn refunds_in_parts_keep_what_one_refund_of_their_sum_keeps() {
    // C = 10 % of 10.05 = 1.01; kept after 3.35: 1.01 · 6.70 / 10.05 = 0.67333 → 0.67; after 6.70: 0.33666 → 0.34
    assert_eq!(kept_minor(&refunded(1_005, vec![refund("1", "s", Some(335))]), "s"), 67);
    let two = vec![refund("1", "s", Some(335)), refund("2", "s", Some(335))];
    assert_eq!(kept_minor(&refunded(1_005, two.clone()), "s"), 34);
    assert_eq!(kept_minor(&refunded(1_005, vec![refund("1", "s", Some(670))]), "s"), 34);
    assert_eq!(kept_minor(&refunded(1_005, vec![refund("1", "s", Some(1_005))]), "s"), 0);
    let three = [two, vec![refund("3", "s", Some(335))]].concat();
    assert_eq!(kept_minor(&refunded(1_005, three), "s"), 0);
}

#[test]
fn what_is_kept_is_rounded_half_up() {
    // C = 0.03 of 0.30; half is kept: 0.015 → 0.02
    assert_eq!(kept_minor(&refunded(30, vec![refund("1", "s", Some(15))]), "s"), 2);
}

#[test]
fn a_whole_refund_keeps_nothing_but_the_commission_stays() {
    let world = refunded(1_000, vec![refund("1", "s", None)]);
    let commission = commission(&world, "s");
    assert_eq!((commission.gross_minor, commission.kept_minor), (100, 0));
    assert_eq!(commission.state, CommissionState::Approved);
    assert_eq!(result(&world, "s").refunded_minor, 1_000);
}

#[test]
fn an_excess_of_the_sum_is_recorded_but_one_refund_above_the_amount_is_rejected() {
    let excess = refunded(1_000, vec![refund("1", "s", Some(700)), refund("2", "s", Some(600))]);
    let outcome = evaluate(&excess);
    let result = &outcome.conversions[&key("s")];
    assert_eq!((result.refunded_minor, result.excess_minor, kept_minor(&excess, "s")), (1_000, 300, 0));
    assert_eq!(outcome.refunds[&key("2")], RefundOutcome::Recorded);

    let above = refunded(1_000, vec![refund("1", "s", Some(1_001)), refund("2", "s", Some(100))]);
    let outcome = evaluate(&above);
    assert_eq!(outcome.refunds[&key("1")], RefundOutcome::Rejected);
    assert_eq!((outcome.conversions[&key("s")].refunded_minor, kept_minor(&above, "s")), (100, 90));
}

#[test]
fn a_refund_in_another_currency_is_rejected() {
    let euros = Refund { amount: Some((500, "EUR".to_owned())), ..refund("1", "s", None) };
    let world = refunded(1_000, vec![euros]);
    assert_eq!(evaluate(&world).refunds[&key("1")], RefundOutcome::Rejected);
    assert_eq!(kept_minor(&world, "s"), 100);
}

#[test]
fn a_chargeback_that_is_won_back_restores_in_proportion() {
    let of_kind = |id, kind, amount| Refund { kind, ..refund(id, "s", amount) };
    let partial = of_kind("1", RefundKind::Cancellation, Some(300));
    let chargeback = of_kind("2", RefundKind::Chargeback, None);
    let reversed = of_kind("3", RefundKind::ChargebackReversed, None);
    let half_reversed = of_kind("3", RefundKind::ChargebackReversed, Some(500));
    assert_eq!(kept_minor(&refunded(1_000, vec![chargeback.clone()]), "s"), 0);
    assert_eq!(kept_minor(&refunded(1_000, vec![chargeback.clone(), reversed.clone()]), "s"), 100);
    assert_eq!(kept_minor(&refunded(1_000, vec![chargeback.clone(), half_reversed]), "s"), 50);
    // The 3.00 that were refunded besides stay refunded.
    assert_eq!(kept_minor(&refunded(1_000, vec![partial, chargeback, reversed.clone()]), "s"), 70);
    // Nothing to win back: not below zero.
    assert_eq!(kept_minor(&refunded(1_000, vec![reversed]), "s"), 100);
}

#[test]
fn the_refund_of_a_worthless_sale_is_all_or_nothing() {
    let flat_world = |refunds| {
        let mut world = refunded(0, refunds);
        world.campaigns[0].terms = vec![terms(1, 0, vec![component(Rate::FlatMinor(30))])];
        world
    };
    let won_back = Refund { kind: RefundKind::ChargebackReversed, ..refund("2", "s", None) };
    assert_eq!(kept_minor(&flat_world(vec![refund("1", "s", None)]), "s"), 0);
    assert_eq!(kept_minor(&flat_world(vec![refund("1", "s", Some(0))]), "s"), 30);
    assert_eq!(kept_minor(&flat_world(vec![refund("1", "s", None), won_back]), "s"), 30);
}

#[test]
fn a_refund_finds_its_sale_by_source_and_external_id() {
    let elsewhere = Refund { key: ("bank".into(), "1".into()), ..refund("", "s", None) };
    let named = Refund { conversion_source: text("shop"), ..elsewhere.clone() };
    assert_eq!(kept_minor(&refunded(1_000, vec![elsewhere]), "s"), 100);
    assert_eq!(kept_minor(&refunded(1_000, vec![named]), "s"), 0);
}

#[test]
fn refunds_of_rejected_and_unattributed_conversions_post_nothing() {
    let rejected = Conversion { currency: "EUR".to_owned(), ..sale_of_p("a", 1, 1_000) };
    let refunds = vec![refund("1", "a", None), refund("2", "b", None)];
    let outcome = evaluate(&World { conversions: vec![rejected, sale("b", 1, 1_000)], refunds, ..world() });
    assert_eq!(outcome.refunds[&key("2")], RefundOutcome::Recorded);
    assert!(outcome.balances.is_empty() && outcome.expense_minor.is_empty());
}

// R7: hold and approval

#[test]
fn the_automatic_limit_is_inclusive_and_asks_what_is_kept() {
    let state = |world: &World| commission(world, "s").state;
    assert_eq!(state(&refunded(10_000, vec![])), CommissionState::Approved);
    assert_eq!(state(&refunded(10_010, vec![])), CommissionState::Pending);
    assert_eq!(state(&refunded(10_010, vec![refund("1", "s", Some(10))])), CommissionState::Approved);
}

#[test]
fn a_refund_after_the_hold_changes_the_amount_but_not_the_decision() {
    let late = Refund { recorded_at: 130 * DAY, ..refund("1", "s", Some(5_000)) };
    let world = refunded(20_000, vec![late.clone()]);
    assert_eq!(commission(&world, "s").hold_ends_at, 130 * DAY);
    assert_eq!((commission(&world, "s").state, kept_minor(&world, "s")), (CommissionState::Pending, 1_500));
    let approved = refunded(10_000, vec![Refund { amount: None, ..late.clone() }]);
    assert_eq!((commission(&approved, "s").state, kept_minor(&approved, "s")), (CommissionState::Approved, 0));
    // At the very end of the hold is too late.
    let half_at = |recorded_at| Refund { recorded_at, amount: Some((10_000, "USD".to_owned())), ..late.clone() };
    assert_eq!(commission(&refunded(20_000, vec![half_at(130 * DAY)]), "s").state, CommissionState::Pending);
    assert_eq!(commission(&refunded(20_000, vec![half_at(130 * DAY - 1)]), "s").state, CommissionState::Approved);
}

#[test]
fn approval_waits_while_the_partner_is_suspended() {
    let with = |suspension, terminated_at| {
        let mut world = refunded(1_000, vec![]);
        world.partners[0].suspensions = vec![suspension];
        world.partners[0].terminated_at = terminated_at;
        commission(&world, "s").state
    };
    let from = 110 * DAY;
    assert_eq!(with(Span { from, to: None }, None), CommissionState::Pending);
    assert_eq!(with(Span { from, to: Some(200 * DAY) }, None), CommissionState::Approved);
    // Termination ends the suspension; what was earned before stays owed.
    assert_eq!(with(Span { from, to: None }, Some(120 * DAY)), CommissionState::Approved);
    // Suspended only after the hold had ended.
    assert_eq!(with(Span { from: 131 * DAY, to: None }, None), CommissionState::Approved);
}

// R8, R11: balances

#[test]
fn balances_are_what_is_kept_and_expense_is_their_sum() {
    let small = sale_of_p("small", 1, 1_000);
    let large = sale_of_p("large", 2, 50_000);
    let other = Conversion { partner: text("q"), ..sale("other", 3, 2_000) };
    let nobodys = sale("nobody's", 4, 9_000);
    let refunds = vec![refund("1", "large", Some(10_000)), refund("2", "other", Some(1_000))];
    let outcome = evaluate(&World { conversions: vec![small, large, other, nobodys], refunds, ..world() });
    let balance = |partner: &str| outcome.balances.get(&(partner.to_owned(), "USD".to_owned())).copied();
    assert_eq!(balance("p"), Some(Balance { pending_minor: 4_000, payable_minor: 100 }));
    assert_eq!(balance("q"), Some(Balance { pending_minor: 0, payable_minor: 100 }));
    assert_eq!(balance("r"), None);
    assert_eq!(outcome.expense_minor, [("c".to_owned(), 4_200)].into());
}

#[test]
fn the_order_of_the_lists_does_not_matter() {
    let mut world = bonus_world(vec![sale("a", 3, 1_500), sale_of_p("b", 4, 2_000), sale("c", 5, 2_500)]);
    world.touches = vec![touch("1", "p", 1), touch("2", "q", 2), touch("3", "r", 2), touch("4", "q", 4)];
    world.refunds = vec![refund("1", "a", Some(100)), refund("2", "a", Some(200)), refund("3", "c", None)];
    let expected = evaluate(&world);
    world.touches.reverse();
    world.conversions.reverse();
    world.refunds.reverse();
    world.partners.reverse();
    world.enrollments.reverse();
    assert_eq!(evaluate(&world), expected);
}

#[test]
#[should_panic(expected = "one conversion twice")]
fn a_natural_key_held_twice_is_the_callers_mistake() {
    evaluate(&World { conversions: vec![sale("a", 1, 1_000), sale("a", 2, 1_000)], ..world() });
}
