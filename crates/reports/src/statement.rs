//! A partner's statement: what was owed, every entry of a period, what is owed.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel::{CampaignId, Currency, Fault, PartnerId, Result, Timestamp, problems};
use ledger::{Balance, EntryKind, PostedEntry};
use platform::{Reader, event_log};
use serde::Serialize;

/// A partner's statement over `[from, to)`, by the time at which entries were posted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatementView {
    /// The partner.
    pub partner_id: PartnerId,
    /// The first instant of the period.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// The balances before and after, by currency.
    pub balances: Vec<StatementBalance>,
    /// The entries, in order; the first 1,000 of them.
    pub entries: Vec<StatementLine>,
    /// Whether there are more entries in the period: then shorten it, or page through the ledger's entries.
    pub has_more: bool,
}

/// A partner's balances in one currency before and after a period.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatementBalance {
    /// The currency.
    pub currency: Currency,
    /// Before the period's first entry.
    pub opening: Balance,
    /// After its last entry.
    pub closing: Balance,
}

/// An entry of a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StatementLine {
    /// The position of the event that tells it.
    pub position: i64,
    /// Its place in that event.
    pub line: i64,
    /// When it was posted.
    pub posted_at: Timestamp,
    /// What kind of entry it is: `accrued`, `approved`, `settled`, …
    pub kind: EntryKind,
    /// The commission, payout item or adjustment that it is about.
    pub source: String,
    /// The campaign, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// Minor units, above zero; the kind says from where to where.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

const MOST_ENTRIES: usize = 1_000;

/// The statement of `partner_id` over `[from, to)`; a partner without entries has an empty one. Fault: `invalid` when
/// `to` is before `from`.
pub fn statement(reader: &Reader<'_>, partner_id: PartnerId, from: Timestamp, to: Timestamp) -> Result<StatementView> {
    if to < from {
        return Err(Fault::at(&problems::INVALID, "/to", format!("{to} is before the beginning, {from}")));
    }
    let before = |instant: Timestamp| event_log::position_at(reader, instant.minus(Duration::from_micros(1)));
    let (opening, closing) = (before(from)?, before(to)?);
    let mut by_currency: BTreeMap<Currency, StatementBalance> = BTreeMap::new();
    let blank = |currency| StatementBalance { currency, opening: Balance::default(), closing: Balance::default() };
    for found in ledger::balances(reader, opening, Some(partner_id))? {
        by_currency.entry(found.currency).or_insert_with(|| blank(found.currency)).opening = found.balance;
    }
    for found in ledger::balances(reader, closing, Some(partner_id))? {
        by_currency.entry(found.currency).or_insert_with(|| blank(found.currency)).closing = found.balance;
    }
    let limit = i64::try_from(MOST_ENTRIES + 1).unwrap_or(i64::MAX);
    let mut entries = ledger::entries(reader, (opening, i64::MAX), Some(partner_id), limit)?;
    entries.retain(|entry| entry.position <= closing);
    let has_more = entries.len() > MOST_ENTRIES;
    entries.truncate(MOST_ENTRIES);
    let entries = entries.iter().map(line).collect();
    Ok(StatementView { partner_id, from, to, balances: by_currency.into_values().collect(), entries, has_more })
}

fn line(posted: &PostedEntry) -> StatementLine {
    StatementLine {
        position: posted.position,
        line: posted.line,
        posted_at: posted.posted_at,
        kind: posted.entry.kind,
        source: posted.source(),
        campaign_id: posted.entry.campaign_id,
        amount_minor: posted.entry.amount_minor,
        currency: posted.entry.currency,
    }
}

#[cfg(test)]
mod tests {
    use events::commissions::CommissionState as State;

    use super::*;
    use crate::testing::{campaign, day, partner, world};

    #[test]
    fn opening_plus_entries_is_closing() {
        let mut world = world();
        let first = world.accrue(partner(1), campaign(1), 10_00);
        world.accrue(partner(2), campaign(1), 99_00);
        world.set_time(day(1));
        world.reverse(first, 2_50);
        world.change(first, State::Approved);
        world.accrue_in(partner(1), campaign(1), 4_00, "EUR".parse().unwrap());
        world.set_time(day(2));
        world.reverse(first, 50);
        let of = |from, to| world.read(|reader| statement(reader, partner(1), day(from), day(to)));
        let found = of(1, 2);
        let kinds: Vec<_> = found.entries.iter().map(|line| (line.kind, line.amount_minor, line.posted_at)).collect();
        let expected = [
            (EntryKind::ReversedPending, 2_50, day(1)),
            (EntryKind::Approved, 7_50, day(1)),
            (EntryKind::Accrued, 4_00, day(1)),
        ];
        assert_eq!((kinds.as_slice(), found.has_more), (expected.as_slice(), false));
        let usd = found.balances.iter().find(|balance| balance.currency == Currency::USD).unwrap();
        let (opening, closing) = (usd.opening, usd.closing);
        assert_eq!((opening.accrued_minor, opening.pending_minor, opening.payable_minor), (10_00, 10_00, 0));
        assert_eq!((closing.reversed_minor, closing.pending_minor, closing.payable_minor), (2_50, 0, 7_50));
        let eur = found.balances.iter().find(|balance| balance.currency != Currency::USD).unwrap();
        assert_eq!((eur.opening, eur.closing.pending_minor), (Balance::default(), 4_00));
        assert!(found.entries[0].source.starts_with("com_"));
        // What ends one period begins the next.
        assert_eq!(of(2, 3).balances.iter().find(|b| b.currency == Currency::USD).unwrap().opening, closing);
        assert_eq!(of(0, 1).entries.len() + of(1, 2).entries.len() + of(2, 3).entries.len(), 5);
    }

    #[test]
    fn a_statement_has_a_limit_and_a_partner_without_entries_an_empty_one() {
        let mut world = world();
        (0..1_001).for_each(|_| {
            world.accrue(partner(1), campaign(1), 1);
        });
        let of = |partner_id, from, to| world.read(|reader| statement(reader, partner_id, from, to));
        let full = of(partner(1), day(0), day(1));
        assert_eq!((full.entries.len(), full.has_more), (1_000, true));
        assert_eq!(full.balances[0].closing.pending_minor, 10_01);
        let none = of(partner(2), day(0), day(1));
        assert_eq!((none.balances, none.entries, none.has_more), (Vec::new(), Vec::new(), false));
        let fault = world.db.read(|reader| statement(reader, partner(1), day(1), day(0))).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", "/to"));
    }
}
