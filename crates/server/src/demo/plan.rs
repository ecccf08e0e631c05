//! What is delivered in the demo, and in which order: a pure function of the log, so that anyone can recompute it.

use std::collections::BTreeMap;

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;

use super::log::{DAY_SECONDS, Purchase};

/// The partners are numbered 1 to 12.
pub(super) const PARTNERS: u32 = 12;
/// The order of delivery comes from this seed.
const SHUFFLE_SEED: u64 = 1_998;

/// How a customer's purchases name the partner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    /// The partner's code is on every purchase.
    Code(u32),
    /// The partner's id is on every purchase.
    Partner(u32),
    /// Nothing: touches decide, or nobody.
    Nothing,
}

/// One fact to be delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planned {
    /// A click of the customer at a partner: its number for the customer (1, 2), and when.
    Touch { customer: u32, number: u32, partner: u32, at_seconds: i64 },
    /// A purchase.
    Sale(Purchase),
    /// Half of a purchase comes back.
    Refund { sale: Purchase, amount_minor: i64 },
}

/// The number of a customer's own partner.
pub(super) const fn own_partner(customer: u32) -> u32 {
    1 + customer % PARTNERS
}

/// How a customer's purchases name the partner.
pub(super) const fn naming(customer: u32) -> Naming {
    match customer % 5 {
        0 => Naming::Code(own_partner(customer)),
        4 if customer % 50 != 49 => Naming::Partner(own_partner(customer)),
        _ => Naming::Nothing,
    }
}

/// When a purchase happened, in seconds since 1970: the log knows only days, so the line spreads them over the day.
pub(super) fn sold_at_seconds(sale: &Purchase) -> i64 {
    sale.day_start_seconds + i64::from(sale.line) % DAY_SECONDS
}

/// Every delivery before the payout, in order; duplicates are in it twice.
pub(super) fn deliveries(log: &[Purchase]) -> Vec<Planned> {
    let mut planned = touches(log);
    for &sale in log {
        planned.push(Planned::Sale(sale));
        if sale.line % 19 == 3 {
            planned.push(Planned::Sale(sale));
        }
        if sale.line % 40 == 7 && sale.amount_minor > 0 {
            planned.push(Planned::Refund { sale, amount_minor: (sale.amount_minor + 1) / 2 });
        }
    }
    planned.shuffle(&mut rand::rngs::StdRng::seed_from_u64(SHUFFLE_SEED));
    planned
}

fn touches(log: &[Purchase]) -> Vec<Planned> {
    let mut first_days: BTreeMap<u32, i64> = BTreeMap::new();
    for purchase in log {
        let first = first_days.entry(purchase.customer).or_insert(i64::MAX);
        *first = purchase.day_start_seconds.min(*first);
    }
    let mut planned = Vec::new();
    for (customer, first_day) in first_days.into_iter().filter(|(customer, _)| matches!(customer % 5, 1..=3)) {
        let at_seconds = first_day - DAY_SECONDS;
        planned.push(Planned::Touch { customer, number: 1, partner: own_partner(customer), at_seconds });
        if customer % 7 == 2 {
            let partner = 1 + (customer + 5) % PARTNERS;
            planned.push(Planned::Touch { customer, number: 2, partner, at_seconds: first_day + 100 * DAY_SECONDS });
        }
    }
    planned
}

/// The purchases that are charged back after the payout.
pub(super) fn charged_back(log: &[Purchase]) -> Vec<Purchase> {
    log.iter().filter(|sale| sale.line % 201 == 13 && sale.amount_minor > 0).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refunds_precede_sales_and_touches_come_late() {
        let log = super::super::log::read().unwrap();
        let deliveries = deliveries(&log);
        let count = |wanted: fn(&Planned) -> bool| deliveries.iter().filter(|planned| wanted(planned)).count();
        assert_eq!(count(|p| matches!(p, Planned::Touch { .. })), 16_162);
        assert_eq!(count(|p| matches!(p, Planned::Sale(_))), 73_326);
        assert_eq!(count(|p| matches!(p, Planned::Refund { .. })), 1_740);
        assert_eq!(charged_back(&log).len(), 346);
        let place = |wanted: &dyn Fn(&Planned) -> bool| deliveries.iter().position(wanted).unwrap();
        let early = deliveries.iter().enumerate().any(|(at, planned)| match planned {
            Planned::Refund { sale, .. } => at < place(&|p| *p == Planned::Sale(*sale)),
            _ => false,
        });
        assert!(early, "no refund comes before its sale");
    }

    #[test]
    fn naming_follows_the_customer_number() {
        assert_eq!(naming(10), Naming::Code(11));
        assert_eq!(naming(14), Naming::Partner(3));
        assert_eq!(naming(49), Naming::Nothing);
        assert_eq!(naming(11), Naming::Nothing);
    }
}
