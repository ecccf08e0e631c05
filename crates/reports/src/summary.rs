//! The summary by partner, campaign, day or state.

use events::commissions::CommissionState;
use kernel::{CampaignId, Currency, Fault, Id, PartnerId, Result, Timestamp, problems};
use platform::{Reader, Row, Value};
use serde::Serialize;

kernel::names! {
    /// What a summary has one row for, per currency.
    pub enum GroupBy {
        /// Every partner.
        Partner = "partner",
        /// Every campaign.
        Campaign = "campaign",
        /// Every UTC day on which something became known.
        Day = "day",
        /// Every state of commissions.
        State = "state",
    }
}

/// What a summary looks at.
#[derive(Debug, Clone, Default)]
pub struct SummaryFilter {
    /// Only this partner.
    pub partner_id: Option<PartnerId>,
    /// Only this campaign.
    pub campaign_id: Option<CampaignId>,
    /// Only this currency.
    pub currency: Option<Currency>,
    /// Only this state.
    pub state: Option<CommissionState>,
    /// What became known on this instant's UTC day or later.
    pub from: Option<Timestamp>,
    /// What became known on a UTC day that begins before this instant.
    pub to: Option<Timestamp>,
}

/// One row of a summary. Days show what happened on them: an approval takes a commission out of `pending` and puts it
/// into `approved` on the day of the approval, so a state's numbers may be negative on one day. Over all days they are
/// how things stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct SummaryRow {
    /// The partner, when grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// The campaign, when grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The UTC day (`YYYY-MM-DD`) on which it became known, when grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<String>,
    /// The state, when grouped by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<CommissionState>,
    /// The currency; two are never added.
    pub currency: Currency,
    /// Commissions; superseded ones are counted only by state.
    pub commissions: i64,
    /// Accrued, less what was undone or rejected; minor units.
    pub accrued_minor: i64,
    /// Taken back by refunds and chargebacks, less what was restored; minor units.
    pub reversed_minor: i64,
    /// Accrued less reversed, minor units.
    pub kept_minor: i64,
    /// The same by state; left out when grouped by state.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateSummary>,
}

/// A row's numbers for the commissions in one state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct StateSummary {
    /// The state.
    pub state: CommissionState,
    /// Commissions.
    pub commissions: i64,
    /// Accrued, less what was undone or rejected; minor units.
    pub accrued_minor: i64,
    /// Taken back by refunds and chargebacks, less what was restored; minor units.
    pub reversed_minor: i64,
    /// Accrued less reversed, minor units.
    pub kept_minor: i64,
}

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The summary, in the order of the group and the currency. Fault: `amount_overflow`.
pub fn summary(reader: &Reader<'_>, group_by: GroupBy, filter: &SummaryFilter) -> Result<Vec<SummaryRow>> {
    let group = match group_by {
        GroupBy::Partner => "partner_id",
        GroupBy::Campaign => "campaign_id",
        GroupBy::Day => "day",
        GroupBy::State => "state",
    };
    let (conditions, params) = conditions(filter);
    let sql = format!(
        "SELECT {group}, currency, state, CAST(SUM(commissions) AS BIGINT), CAST(SUM(accrued_minor) AS BIGINT), \
         CAST(SUM(reversed_minor) AS BIGINT) FROM report_summary{conditions} \
         GROUP BY {group}, currency, state ORDER BY {group}, currency, state"
    );
    let mut rows: Vec<SummaryRow> = Vec::new();
    let parts = reader.query(&sql, &params, |row| Ok((heading(row, group_by)?, part(row)?)))?;
    for (heading, part) in parts {
        let same = |row: &SummaryRow| {
            (row.partner_id, row.campaign_id, &row.day, row.state, row.currency)
                == (heading.partner_id, heading.campaign_id, &heading.day, heading.state, heading.currency)
        };
        if !rows.last().is_some_and(same) {
            rows.push(heading);
        }
        if let Some(row) = rows.last_mut() {
            add(row, part, group_by).ok_or_else(overflow)?;
        }
    }
    rows.retain(|row| !is_empty(row));
    Ok(rows)
}

fn conditions<'f>(filter: &'f SummaryFilter) -> (String, Vec<Value<'f>>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut params: Vec<Value<'f>> = Vec::new();
    let mut when = |condition: &'static str, value: Option<Value<'f>>| {
        if let Some(value) = value {
            conditions.push(condition);
            params.push(value);
        }
    };
    when("partner_id = ?", filter.partner_id.as_ref().map(Value::from));
    when("campaign_id = ?", filter.campaign_id.as_ref().map(Value::from));
    when("currency = ?", filter.currency.as_ref().map(|currency| currency.as_str().into()));
    when("state = ?", filter.state.map(|state| state.as_str().into()));
    when("day >= ?", filter.from.map(|from| from.as_micros().div_euclid(MICROS_PER_DAY).into()));
    when("day <= ?", filter.to.map(|to| (to.as_micros() - 1).div_euclid(MICROS_PER_DAY).into()));
    let clause = if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    (clause, params)
}

fn heading(row: &Row<'_>, group_by: GroupBy) -> Result<SummaryRow> {
    let mut heading = SummaryRow {
        partner_id: None,
        campaign_id: None,
        day: None,
        state: None,
        currency: row.text(1)?.parse().map_err(Fault::internal)?,
        commissions: 0,
        accrued_minor: 0,
        reversed_minor: 0,
        kept_minor: 0,
        states: Vec::new(),
    };
    match group_by {
        GroupBy::Partner => heading.partner_id = Some(Id::from_bytes(row.bytes16(0)?)),
        GroupBy::Campaign => heading.campaign_id = Some(Id::from_bytes(row.bytes16(0)?)),
        GroupBy::Day => heading.day = Some(Timestamp::from_micros(row.int(0)? * MICROS_PER_DAY).day()),
        GroupBy::State => heading.state = Some(row.name(0)?),
    }
    Ok(heading)
}

fn part(row: &Row<'_>) -> Result<StateSummary> {
    let (accrued_minor, reversed_minor) = (row.int(4)?, row.int(5)?);
    Ok(StateSummary {
        state: row.name(2)?,
        commissions: row.int(3)?,
        accrued_minor,
        reversed_minor,
        kept_minor: accrued_minor.checked_sub(reversed_minor).ok_or_else(overflow)?,
    })
}

fn add(row: &mut SummaryRow, part: StateSummary, group_by: GroupBy) -> Option<()> {
    let by_state = group_by == GroupBy::State;
    if by_state || part.state != CommissionState::Superseded {
        row.commissions = row.commissions.checked_add(part.commissions)?;
    }
    row.accrued_minor = row.accrued_minor.checked_add(part.accrued_minor)?;
    row.reversed_minor = row.reversed_minor.checked_add(part.reversed_minor)?;
    row.kept_minor = row.kept_minor.checked_add(part.kept_minor)?;
    if !by_state && (part.commissions, part.accrued_minor, part.reversed_minor) != (0, 0, 0) {
        row.states.push(part);
    }
    Some(())
}

fn is_empty(row: &SummaryRow) -> bool {
    row.states.is_empty() && (row.commissions, row.accrued_minor, row.reversed_minor) == (0, 0, 0)
}

fn overflow() -> Fault {
    Fault::new(&problems::AMOUNT_OVERFLOW, "a sum of the summary leaves the range of 64-bit minor units")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, campaign, day, partner, world};

    /// Day 0: four commissions; day 1: refunds and approvals; day 2: a payout.
    fn story() -> World {
        let mut world = world();
        let first = world.accrue(partner(1), campaign(1), 10_00);
        let second = world.accrue(partner(1), campaign(2), 5_00);
        let third = world.accrue(partner(2), campaign(1), 7_00);
        let fourth = world.accrue(partner(2), campaign(1), 3_00);
        world.set_time(day(1));
        world.reverse(first, 2_50);
        world.change(first, CommissionState::Approved);
        world.change(second, CommissionState::Superseded);
        world.reverse(fourth, 1_00);
        world.change(fourth, CommissionState::Rejected);
        world.set_time(day(2));
        world.change(first, CommissionState::InPayout);
        world.change(first, CommissionState::Paid);
        world.reverse(first, 50);
        world.change(third, CommissionState::Held);
        world.project(512);
        world
    }

    fn numbers(row: &SummaryRow) -> (i64, i64, i64, i64) {
        (row.commissions, row.accrued_minor, row.reversed_minor, row.kept_minor)
    }

    #[test]
    fn by_state_it_shows_where_everything_is() {
        let rows = story().summary(GroupBy::State, &SummaryFilter::default());
        let found: Vec<_> = rows.iter().map(|row| (row.state.unwrap(), numbers(row))).collect();
        let expected = [
            (CommissionState::Held, (1, 7_00, 0, 7_00)),
            (CommissionState::Paid, (1, 10_00, 3_00, 7_00)),
            (CommissionState::Rejected, (1, 1_00, 1_00, 0)),
            (CommissionState::Superseded, (1, 0, 0, 0)),
        ];
        assert_eq!(found, expected);
        assert!(rows.iter().all(|row| row.states.is_empty() && row.currency == Currency::USD));
    }

    #[test]
    fn by_partner_and_campaign_it_adds_up_with_the_states_inside() {
        let world = story();
        let rows = world.summary(GroupBy::Partner, &SummaryFilter::default());
        let found: Vec<_> = rows.iter().map(|row| (row.partner_id.unwrap(), numbers(row))).collect();
        assert_eq!(found, [(partner(1), (1, 10_00, 3_00, 7_00)), (partner(2), (2, 8_00, 1_00, 7_00))]);
        let states: Vec<_> =
            rows[1].states.iter().map(|part| (part.state, part.commissions, part.kept_minor)).collect();
        assert_eq!(states, [(CommissionState::Held, 1, 7_00), (CommissionState::Rejected, 1, 0)]);
        let rows = world.summary(GroupBy::Campaign, &SummaryFilter::default());
        let found: Vec<_> = rows.iter().map(|row| (row.campaign_id.unwrap(), numbers(row))).collect();
        assert_eq!(found, [(campaign(1), (3, 18_00, 4_00, 14_00)), (campaign(2), (0, 0, 0, 0))]);
    }

    #[test]
    fn by_day_it_shows_what_became_known_on_it() {
        let world = story();
        let rows = world.summary(GroupBy::Day, &SummaryFilter::default());
        let found: Vec<_> = rows.iter().map(|row| (row.day.as_deref().unwrap(), numbers(row))).collect();
        let expected = [
            ("2026-01-31", (4, 25_00, 0, 25_00)),
            // One is superseded, two dollars of another are refused, 3.50 are refunded.
            ("2026-02-01", (-1, -7_00, 3_50, -10_50)),
            ("2026-02-02", (0, 0, 50, -50)),
        ];
        assert_eq!(found, expected);
        let of = |from, to| {
            let filter = SummaryFilter { from, to, ..SummaryFilter::default() };
            world.summary(GroupBy::Day, &filter).into_iter().map(|row| row.day.unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(of(Some(day(1)), Some(day(1))), ["2026-02-01"], "whole days");
        let midnight = "2026-02-01T00:00:00Z".parse().unwrap();
        assert_eq!(of(None, Some(midnight)), ["2026-01-31"], "the end is not part of it");
        assert_eq!(of(Some(midnight), None), ["2026-02-01", "2026-02-02"]);
    }

    #[test]
    fn filters_narrow_and_currencies_stay_apart() {
        let mut world = story();
        let eur: Currency = "EUR".parse().unwrap();
        world.accrue_in(partner(1), campaign(1), 9_00, eur);
        world.project(512);
        let by_partner = |filter: SummaryFilter| {
            let rows = world.summary(GroupBy::Partner, &filter);
            rows.iter().map(|row| (row.partner_id.unwrap(), row.currency, row.kept_minor)).collect::<Vec<_>>()
        };
        let one = SummaryFilter { partner_id: Some(partner(1)), ..SummaryFilter::default() };
        assert_eq!(by_partner(one), [(partner(1), eur, 9_00), (partner(1), Currency::USD, 7_00)]);
        let euros = SummaryFilter { currency: Some(eur), ..SummaryFilter::default() };
        assert_eq!(by_partner(euros), [(partner(1), eur, 9_00)]);
        let held = SummaryFilter { state: Some(CommissionState::Held), ..SummaryFilter::default() };
        assert_eq!(by_partner(held), [(partner(2), Currency::USD, 7_00)]);
        let campaign = SummaryFilter { campaign_id: Some(campaign(2)), ..SummaryFilter::default() };
        assert_eq!(by_partner(campaign), [(partner(1), Currency::USD, 0)]);
    }
}
