//! Any split of the log into slices ends in the same state, with statements that do not depend on a slice's length; and
//! what a reaction costs.

use events::conversions::Attributed;
use kernel::NewEvent;
use proptest::prelude::*;

use crate::testing::{attributed, day, partner, refunded, refunds, rejected, terms, unattributed, version, world};

fn sales(count: u32) -> Vec<NewEvent> {
    let sale = |n: u32| {
        let refunds = refunds(if n.is_multiple_of(2) { 500 } else { 0 }, false);
        NewEvent::of(&Attributed { first_purchase: true, refunds, ..attributed(n, 1_000) })
    };
    (1..=count).map(sale).collect()
}

#[test]
fn statements_do_not_depend_on_the_slice() {
    let statements = |count: u32| {
        let world = world();
        world.publish(&sales(count));
        let first = world.react(512);
        // Every commission is replaced.
        let late: Vec<NewEvent> =
            (1..=count).map(|n| NewEvent::of(&Attributed { partner_id: partner(2), ..attributed(n, 1_000) })).collect();
        world.publish(&late);
        let second = world.react(512);
        world.set_day(30);
        let before = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst);
        assert_eq!(world.end_holds(), count as usize);
        let holds = world.db.stats().statements.load(std::sync::atomic::Ordering::SeqCst) - before;
        world.assert_sound();
        (first, second, holds)
    };
    let few = statements(2);
    assert_eq!(few, statements(512));
    assert!(few.0 <= 24 && few.1 <= 24 && few.2 <= 16, "{few:?}");
}

/// One of everything that can happen to a few conversions of a few customers.
fn happenings() -> impl Strategy<Value = Vec<(u8, u32, u8, i64, bool)>> {
    proptest::collection::vec((0_u8..8, 1_u32..6, 1_u8..4, 0_i64..2_000, any::<bool>()), 1..40)
}

fn told(happening: &(u8, u32, u8, i64, bool), refunded_so_far: &mut [i64; 6]) -> NewEvent {
    let (sort, n, by, amount, flag) = *happening;
    // The amount of a conversion never changes.
    let worth = i64::from(n) * 500;
    let so_far = &mut refunded_so_far[n as usize];
    match sort {
        0 => NewEvent::of(&unattributed(n)),
        1 => NewEvent::of(&rejected(n)),
        2 | 3 => {
            *so_far = amount.min(worth);
            NewEvent::of(&refunded(n, worth, refunds(*so_far, false)))
        }
        _ => NewEvent::of(&Attributed {
            partner_id: partner(by),
            first_purchase: flag,
            customer: Some(format!("{:032x}", n % 2)),
            refunds: refunds(*so_far, false),
            ..attributed(n, worth)
        }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_split_ends_in_the_same_state(
        happenings in happenings(),
        slice in 1_usize..12,
        budget in proptest::option::of(100_i64..600),
    ) {
        let run = |slice: usize| {
            let world = world();
            world.campaign(vec![version(1, day(0), terms())], budget);
            let mut so_far = [0; 6];
            let events: Vec<NewEvent> = happenings.iter().map(|happening| told(happening, &mut so_far)).collect();
            world.publish(&events);
            world.react(slice);
            world.set_day(30);
            world.end_holds();
            // Bonuses of two conversions that both claim to be the first are not what `conversions` sends.
            for check in world.read(crate::check).iter().filter(|check| !check.name.contains("bonus")) {
                assert_eq!(check.differences, Vec::<String>::new(), "{}", check.name);
            }
            world.outcome()
        };
        prop_assert_eq!(run(512), run(slice));
    }
}
