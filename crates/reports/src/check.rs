//! Reports' part of `verify`: the summary ties with the ledger.

use std::collections::{BTreeMap, BTreeSet};

use events::commissions::CommissionState as State;
use kernel::{Currency, Fault, PartnerId, Result};
use ledger::Balance;
use platform::{Check, Reader, consumer};

use crate::project::CONSUMER;

/// What both sides must agree on, minor units.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sums {
    accrued: i64,
    reversed: i64,
    /// Kept, not approved yet.
    pending: i64,
    /// Kept, approved: payable, in a payout or paid.
    owed: i64,
}

impl From<Balance> for Sums {
    fn from(balance: Balance) -> Self {
        Self {
            accrued: balance.accrued_minor,
            reversed: balance.reversed_minor,
            pending: balance.pending_minor,
            // Adjustments and write-offs are no commissions.
            owed: balance.payable_minor + balance.in_payout_minor + balance.paid_minor
                - balance.adjusted_minor
                - balance.written_off_minor,
        }
    }
}

/// The summary's totals equal the ledger's balances per partner and currency, at the position that the projection has
/// come to.
pub fn check(reader: &Reader<'_>) -> Result<Vec<Check>> {
    let position = consumer::position(reader, CONSUMER)?;
    let summary = from_summary(reader)?;
    let ledger: BTreeMap<(PartnerId, Currency), Sums> = ledger::balances(reader, position, None)?
        .into_iter()
        .map(|found| ((found.partner_id, found.currency), found.balance.into()))
        .collect();
    let keys: BTreeSet<_> = summary.keys().chain(ledger.keys()).collect();
    let none = Sums::default();
    let mut differences = Vec::new();
    for key in &keys {
        let (told, posted) = (summary.get(key).unwrap_or(&none), ledger.get(key).unwrap_or(&none));
        if told != posted && differences.len() < 10 {
            differences.push(format!("{} {}: the summary has {told:?}, the ledger {posted:?}", key.0, key.1));
        }
    }
    let checked = i64::try_from(keys.len()).unwrap_or(i64::MAX);
    Ok(vec![Check { name: "the summary ties with the ledger", checked, differences }])
}

fn from_summary(reader: &Reader<'_>) -> Result<BTreeMap<(PartnerId, Currency), Sums>> {
    let sql = "SELECT partner_id, currency, state, CAST(SUM(accrued_minor) AS BIGINT), CAST(SUM(reversed_minor) AS BIGINT) \
        FROM report_summary GROUP BY partner_id, currency, state ORDER BY partner_id, currency, state";
    let mut found: BTreeMap<(PartnerId, Currency), Sums> = BTreeMap::new();
    reader.query(sql, &[], |row| {
        let currency: Currency = row.text(1)?.parse().map_err(Fault::internal)?;
        let (accrued, reversed) = (row.int(3)?, row.int(4)?);
        let sums = found.entry((row.id(0)?, currency)).or_default();
        sums.accrued += accrued;
        sums.reversed += reversed;
        match row.name::<State>(2)? {
            State::Pending | State::Held => sums.pending += accrued - reversed,
            State::Approved | State::InPayout | State::Paid => sums.owed += accrued - reversed,
            // What was refused or replaced keeps nothing; anything else shows as a difference.
            State::Rejected | State::Superseded if accrued == reversed => {}
            State::Rejected | State::Superseded => sums.owed += accrued - reversed,
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{campaign, partner, world};

    #[test]
    fn a_projection_that_is_behind_ties_with_the_ledger_as_it_was() {
        let mut world = world();
        let first = world.accrue(partner(1), campaign(1), 10_00);
        world.project(512);
        world.change(first, State::Approved);
        world.reverse(first, 1_00);
        let found = world.read(check).remove(0);
        assert_eq!((found.checked, found.differences.len()), (1, 0));
    }

    #[test]
    fn every_planted_difference_is_found() {
        for plant in [
            "UPDATE report_summary SET accrued_minor = accrued_minor + 1 WHERE state = 'pending'",
            "UPDATE report_summary SET reversed_minor = reversed_minor - 1 WHERE state = 'approved'",
            "UPDATE report_summary SET state = 'held' WHERE state = 'approved'",
            "DELETE FROM report_summary WHERE state = 'approved'",
        ] {
            let mut world = world();
            let first = world.accrue(partner(1), campaign(1), 10_00);
            world.accrue(partner(2), campaign(1), 10_00);
            world.change(first, State::Approved);
            world.project(512);
            assert_eq!(world.read(check)[0].differences, Vec::<String>::new());
            world.write(|tx| tx.execute(plant, &[]));
            assert!(!world.read(check)[0].differences.is_empty(), "{plant}");
        }
    }
}
