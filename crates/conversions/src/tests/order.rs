//! Order does not matter: any split of the log into slices tells the same events, and the same facts in any order, in
//! any batches, ever so often repeated, end in the same state.

use events::campaigns::{AttributionModel, AttributionPolicy, CampaignProfile, CampaignState};
use events::conversions::{Attributed, ConversionKind, RefundKind};
use proptest::prelude::*;

use crate::testing::{World, campaign, day, key, partner, profile, refund, sale, touch, usd, world};
use crate::{Fact, Named, NewConversion, NewRefund, NewTouch};

const CUSTOMERS: [&str; 3] = ["anna", "bert", "carl"];

fn any_touch() -> impl Strategy<Value = Fact> {
    let parts = (0_u8..4, 0_usize..3, 1_u8..=5, -50_i64..0, prop::option::weighted(0.3, 0_u8..3), 1_u8..=3);
    parts.prop_map(|(number, customer, by, at, click, of)| {
        let fact = touch(&format!("t{number}-{customer}-{by}"), CUSTOMERS[customer], by, day(at));
        let click_id = click.map(|click| key(&format!("click-{click}")));
        let campaign_id = Named::Id(campaign(of));
        NewTouch { click_id, campaign_id, ..fact }.into()
    })
}

fn any_sale() -> impl Strategy<Value = Fact> {
    let named = (prop::option::weighted(0.5, 1_u8..=2), prop::option::weighted(0.2, 1_u8..=5));
    let carried = (prop::option::weighted(0.2, 0_u8..5), prop::option::weighted(0.3, 0_u8..3));
    let parts = (0_u8..6, prop::option::weighted(0.9, 0_usize..3), -30_i64..0, any::<bool>());
    (named, carried, parts).prop_map(|((of, by), (code, click), (number, customer, at, lead))| {
        let codes = ["ONE", "TWO", "THREE", "FOUR", "NONE"];
        let fact = NewConversion {
            kind: if lead { ConversionKind::Lead } else { ConversionKind::Sale },
            campaign_id: of.map(|of| Named::Id(campaign(of))),
            partner_id: by.map(|by| Named::Id(partner(by))),
            code: code.map(|code| key(codes[usize::from(code)])),
            click_id: click.map(|click| key(&format!("click-{click}"))),
            customer_ref: customer.map(|customer| key(CUSTOMERS[customer])),
            ..sale(&format!("s{number}"), "anna", day(at))
        };
        fact.into()
    })
}

fn any_refund() -> impl Strategy<Value = Fact> {
    let parts = (0_u8..9, 0_u8..7, prop::option::weighted(0.7, 0_i64..12_000), any::<bool>());
    parts.prop_map(|(number, of, amount, won_back)| {
        let fact = refund(&format!("r{number}"), &format!("s{of}"), amount.map(usd));
        let kind = if won_back { RefundKind::ChargebackReversed } else { RefundKind::Chargeback };
        NewRefund { kind, ..fact }.into()
    })
}

/// Facts with different natural keys.
fn any_facts() -> impl Strategy<Value = Vec<Fact>> {
    let fact = prop_oneof![3 => any_touch(), 4 => any_sale(), 2 => any_refund()];
    prop::collection::vec(fact, 1..24).prop_map(|facts| {
        let mut keys = std::collections::BTreeSet::new();
        let natural = |fact: &Fact| match fact {
            Fact::Touch(fact) => (0, fact.external_id.clone()),
            Fact::Conversion(fact) => (1, fact.external_id.clone()),
            Fact::Refund(fact) => (2, fact.external_id.clone()),
        };
        facts.into_iter().filter(|fact| keys.insert(natural(fact))).collect()
    })
}

/// Campaign 1 takes the last touch; 2 the first one, in a short window, and has a pause; 3 has another currency. Partner
/// 4 has applied, partner 5 is unknown.
fn stage() -> World {
    let world = world();
    let attribution = AttributionPolicy { model: AttributionModel::FirstTouch, window_days: 10 };
    let pauses = vec![events::partners::Inactive { from: day(-20), to: Some(day(-15)) }];
    let second = CampaignProfile { attribution, pauses, ..profile(CampaignState::Active) };
    let third = CampaignProfile { currency: "EUR".parse().unwrap(), ..profile(CampaignState::Active) };
    world.publish_campaign(campaign(2), &second);
    world.publish_campaign(campaign(3), &third);
    world.publish_partner(partner(4), events::partners::PartnerState::Applied);
    world.enroll(campaign(1), partner(4), Some("FOUR"), None, None);
    for by in [1, 2] {
        world.enroll(campaign(2), partner(by), None, Some(day(-40)), None);
        world.enroll(campaign(3), partner(by), None, None, None);
    }
    world
}

/// Where every conversion stands, without the number of decisions that it took.
fn state(world: &World) -> Vec<String> {
    let page = platform::Page::first(500);
    let views = world.db.read(|reader| crate::views::list(reader, &crate::ConversionFilter::default(), &page)).unwrap();
    let told = world.told::<Attributed>();
    let mut states: Vec<String> = views
        .items
        .iter()
        .map(|view| {
            let first = told.iter().rfind(|told| told.conversion_id == view.id).map(|told| told.first_purchase);
            let first = first.filter(|_| view.partner_id.is_some());
            let parked = view.parked.as_ref().map(|parked| (&parked.wait_key, &parked.reason));
            let (decided, refunded) = ((view.state, view.campaign_id, view.partner_id), view.refunded_minor);
            format!("{} {decided:?} {:?} {first:?} {refunded} {parked:?}", view.external_id, view.reason)
        })
        .collect();
    states.sort();
    states
}

/// Everything that was decided, in order.
fn story(world: &World) -> Vec<(String, String)> {
    let decided = world.log().into_iter().filter(|event| event.actor == "system");
    decided.map(|event| (event.event_type, event.payload)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_log_tells_the_same_story(facts in any_facts(), slice in 1_usize..9, activated_after in 0_usize..24) {
        let tell = |slice: usize| {
            let mut world = stage().with_slices_of(slice);
            let (before, after) = facts.split_at(activated_after.min(facts.len()));
            world.record(before.to_vec());
            world.activate_partner(partner(4));
            world.record(after.to_vec());
            world.run();
            world.assert_verified();
            (story(&world), state(&world))
        };
        prop_assert_eq!(tell(slice), tell(512));
    }

    #[test]
    fn any_order_any_batches_and_repeats_end_in_the_same_state(
        (facts, shuffled) in any_facts().prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle())),
        batch in 1_usize..6,
        slice in 1_usize..5,
    ) {
        let mut plain = stage();
        plain.record(facts);
        plain.run();
        let mut mixed = stage().with_slices_of(slice);
        for some in shuffled.chunks(batch) {
            mixed.record(some.to_vec());
            mixed.record(some[..1].to_vec());
            mixed.run();
        }
        mixed.assert_verified();
        prop_assert_eq!(state(&plain), state(&mixed));
    }

    #[test]
    fn a_partner_that_is_activated_late_ends_the_same(facts in any_facts(), activated_after in 0_usize..24) {
        let mut early = stage();
        early.activate_partner(partner(4));
        early.record(facts.clone());
        early.run();
        let mut late = stage().with_slices_of(2);
        let (before, after) = facts.split_at(activated_after.min(facts.len()));
        late.record(before.to_vec());
        late.run();
        late.activate_partner(partner(4));
        late.record(after.to_vec());
        late.run();
        late.assert_verified();
        prop_assert_eq!(state(&early), state(&late));
    }
}
