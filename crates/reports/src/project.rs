//! The summary's projection: aggregated in memory per slice, written as additions.

use std::collections::BTreeMap;

use kernel::{EventRecord, Fault, Result, digest16, hex, problems};
use platform::{Consumer, OnDuplicate, Reader, Tx, Value, consumer};

use crate::model::{Cell, Measures, TYPES, deltas};

/// The consumer's name.
pub const CONSUMER: &str = "reports";

/// Adds events of commissions to the summary.
pub fn consumer() -> Consumer {
    Consumer { name: CONSUMER, types: TYPES.to_vec(), react: Box::new(react) }
}

fn react(tx: &mut Tx<'_>, events: &[EventRecord]) -> Result<()> {
    let mut cells: BTreeMap<Cell, Measures> = BTreeMap::new();
    for event in events {
        for (cell, delta) in deltas(event)? {
            let sum = cells.entry(cell).or_default().add(delta);
            sum.ok_or_else(|| Fault::new(&problems::AMOUNT_OVERFLOW, format!("the summary at {}", event.position)))?;
        }
    }
    // A cell whose deltas cancel out is written too: then the content does not depend on the slices.
    let rows: Vec<[Value<'_>; 8]> = cells
        .iter()
        .map(|(cell, sum)| {
            [
                cell.day.into(),
                (&cell.campaign_id).into(),
                (&cell.partner_id).into(),
                cell.currency.as_str().into(),
                cell.state.as_str().into(),
                sum.commissions.into(),
                sum.accrued_minor.into(),
                sum.reversed_minor.into(),
            ]
        })
        .collect();
    let key = ["day", "campaign_id", "partner_id", "currency", "state"];
    let columns =
        ["day", "campaign_id", "partner_id", "currency", "state", "commissions", "accrued_minor", "reversed_minor"];
    tx.insert("report_summary", columns, &rows, OnDuplicate::Add { key: &key })
}

/// Empties the projection and sets its cursor back to the beginning; a fresh `Runner` then builds it again. A `Runner`
/// that has already come further must not be used for that: it remembers where it was.
pub fn rebuild(tx: &mut Tx<'_>) -> Result<()> {
    tx.execute("DELETE FROM report_summary", &[])?;
    consumer::reset(tx, CONSUMER)
}

/// A digest over the projection's content, 32 hexadecimal digits: equal before and after a rebuild.
pub fn content_digest(reader: &Reader<'_>) -> Result<String> {
    let sql = "SELECT day, campaign_id, partner_id, currency, state, commissions, accrued_minor, reversed_minor \
        FROM report_summary ORDER BY day, campaign_id, partner_id, currency, state";
    let mut digest = [0; 16];
    reader.query(sql, &[], |row| {
        let [day, commissions, accrued, reversed] =
            [row.int(0)?, row.int(5)?, row.int(6)?, row.int(7)?].map(i64::to_be_bytes);
        let (currency, state) = (row.text(3)?.as_bytes(), row.text(4)?.as_bytes());
        let parts: [&[u8]; 9] =
            [&digest, &day, row.bytes(1)?, row.bytes(2)?, currency, state, &commissions, &accrued, &reversed];
        digest = digest16(&parts);
        Ok(())
    })?;
    Ok(hex(&digest))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use events::commissions::CommissionState as State;
    use kernel::Currency;
    use proptest::prelude::*;

    use crate::testing::{World, campaign, day, partner, world};
    use crate::{GroupBy, SummaryFilter, check};

    const STATES: [State; 7] = [
        State::Pending,
        State::Held,
        State::Approved,
        State::InPayout,
        State::Paid,
        State::Rejected,
        State::Superseded,
    ];

    /// Does one thing of a random history.
    fn act(world: &mut World, (what, which, number): (u8, usize, u8)) {
        let index = which % world.commissions.len().max(1);
        match what {
            0..=3 => {
                let currency = if number % 5 == 0 { "EUR".parse().unwrap() } else { Currency::USD };
                world.accrue_in(partner(number % 3), campaign(number % 2), 1 + i64::from(number), currency);
            }
            4 => world.refuse(partner(number % 3), campaign(number % 2), i64::from(number)),
            5 => world.set_time(world.db.now().plus(std::time::Duration::from_secs(u64::from(number) * 1_000))),
            6 if !world.commissions.is_empty() => world.reverse(index, i64::from(number) - 100),
            _ if !world.commissions.is_empty() => world.change(index, STATES[usize::from(number) % STATES.len()]),
            _ => {}
        }
    }

    fn assert_ties(world: &World) {
        let checks = world.read(check);
        assert!(checks.iter().all(|check| check.differences.is_empty()), "{checks:#?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

        #[test]
        fn any_history_ties_with_the_ledger_and_is_rebuilt_to_equal_content_by_any_slices(
            acts in prop::collection::vec((0_u8..16, any::<usize>(), any::<u8>()), 1..120),
            slices in prop::array::uniform3(1_usize..40),
        ) {
            let mut world = world();
            for (number, act_) in acts.iter().enumerate() {
                act(&mut world, *act_);
                if number % 7 == 0 {
                    world.project(slices[0]);
                }
            }
            world.project(slices[0]);
            assert_ties(&world);
            let digest = world.read(super::content_digest);
            prop_assert_eq!(&world.rebuilt(slices[1]), &digest);
            prop_assert_eq!(&world.rebuilt(slices[2]), &digest);
            prop_assert_eq!(&world.rebuilt(512), &digest);
            assert_ties(&world);
            let rows = world.summary(GroupBy::State, &SummaryFilter::default());
            for state in STATES {
                for currency in [Currency::USD, "EUR".parse().unwrap()] {
                    let of: Vec<_> =
                        world.commissions.iter().filter(|c| (c.state, c.currency()) == (state, currency)).collect();
                    let row = rows.iter().find(|row| (row.state, row.currency) == (Some(state), currency));
                    let told = row.map_or((0, 0, 0), |r| (r.commissions, r.accrued_minor, r.reversed_minor));
                    let refused = |c: &&&crate::testing::Commission| c.was_accrued();
                    let accrued = of.iter().filter(refused).map(|c| c.books().0).sum::<i64>();
                    let reversed = of.iter().filter(refused).map(|c| c.books().1).sum::<i64>();
                    prop_assert_eq!(told, (i64::try_from(of.len()).unwrap(), accrued, reversed), "{} {}", state, currency);
                }
            }
        }
    }

    #[test]
    fn a_rebuild_from_zero_after_a_mixed_history_equals_what_grew() {
        let mut world = world();
        let mut seed = 7_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            seed >> 33
        };
        for _ in 0..1_500 {
            let what = u8::try_from(next() % 16).unwrap();
            act(&mut world, (what, usize::try_from(next()).unwrap(), u8::try_from(next() % 256).unwrap()));
        }
        world.project(512);
        let grown = world.read(super::content_digest);
        for slice in [1, 2, 100, 512] {
            assert_eq!(world.rebuilt(slice), grown, "slices of {slice}");
        }
        assert_ties(&world);
        world.accrue(partner(1), campaign(1), 1);
        world.project(512);
        assert_ne!(world.read(super::content_digest), grown, "the digest sees a cent");
    }

    #[test]
    fn the_number_of_statements_does_not_depend_on_the_slice() {
        let statements = |events: u32| {
            let mut world = world();
            for number in 0..events {
                world.set_time(day(number % 3));
                world.accrue(partner(u8::try_from(number % 100).unwrap()), campaign(1), 100);
            }
            let count = || world.db.stats().statements.load(Ordering::Relaxed);
            let before = count();
            world.project(512);
            count() - before
        };
        assert_eq!(statements(2), statements(512));
    }
}
