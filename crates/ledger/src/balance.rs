//! Balances: the latest running totals at or before a position, plus the entries after them.

use std::collections::BTreeMap;

use kernel::{CampaignId, Currency, Fault, PartnerId, Result, problems};
use platform::{Reader, Value};
use serde::Serialize;

use crate::entry::{Account, EntryKind};

/// What running totals are kept by: partner, currency, kind, campaign, gateway.
pub(crate) type Key = (PartnerId, String, EntryKind, Option<CampaignId>, Option<String>);

/// The sums of amounts (minor units) and the numbers of entries.
pub type Totals = BTreeMap<Key, (i64, i64)>;

/// A partner's balances in one currency, minor units. What is owed to the partner is positive.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Balance {
    /// Accrued, less what was undone or rejected.
    pub accrued_minor: i64,
    /// Taken back by refunds and chargebacks, less what was restored.
    pub reversed_minor: i64,
    /// Adjustments, up less down.
    pub adjusted_minor: i64,
    /// Negative balances given up.
    pub written_off_minor: i64,
    /// Held, or waiting for approval.
    pub pending_minor: i64,
    /// Approved and not in a payout; negative after a clawback.
    pub payable_minor: i64,
    /// In a payout without an outcome.
    pub in_payout_minor: i64,
    /// Paid, net of returns.
    pub paid_minor: i64,
}

impl Balance {
    /// The equation of rules section 8: what came equals where it is.
    pub const fn is_balanced(&self) -> bool {
        // In 128 bits: each is in range, their sums need not be.
        self.accrued_minor as i128 - self.reversed_minor as i128
            + self.adjusted_minor as i128
            + self.written_off_minor as i128
            == self.pending_minor as i128
                + self.payable_minor as i128
                + self.in_payout_minor as i128
                + self.paid_minor as i128
    }

    fn add(&mut self, kind: EntryKind, amount: i64) -> Option<()> {
        use EntryKind as K;
        let to = |field: &mut i64, sign: i64| {
            *field = field.checked_add(amount.checked_mul(sign)?)?;
            Some(())
        };
        match kind {
            K::Accrued => to(&mut self.accrued_minor, 1),
            K::Undone | K::Rejected => to(&mut self.accrued_minor, -1),
            K::ReversedPending | K::Reversed => to(&mut self.reversed_minor, 1),
            K::RestoredPending | K::Restored => to(&mut self.reversed_minor, -1),
            K::AdjustedUp => to(&mut self.adjusted_minor, 1),
            K::AdjustedDown => to(&mut self.adjusted_minor, -1),
            K::WrittenOff => to(&mut self.written_off_minor, 1),
            K::Approved | K::PayoutCreated | K::PayoutReleased | K::Settled | K::Returned => Some(()),
        }?;
        to(&mut self.pending_minor, kind.sign(Account::PartnerPending))?;
        to(&mut self.payable_minor, kind.sign(Account::PartnerPayable))?;
        to(&mut self.in_payout_minor, kind.sign(Account::PartnerInPayout))?;
        to(&mut self.paid_minor, kind.sign(Account::Cash))
    }
}

/// A partner's balance in one currency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartnerBalance {
    /// The partner.
    pub partner_id: PartnerId,
    /// The currency.
    pub currency: Currency,
    /// The balances.
    pub balance: Balance,
}

/// The sums at `position`, of one partner or of all.
pub fn totals(reader: &Reader<'_>, position: i64, partner: Option<PartnerId>) -> Result<Totals> {
    let base = reader
        .query_one(
            "SELECT position FROM ledger_roll_up WHERE position <= ? ORDER BY position DESC LIMIT 1",
            &[position.into()],
            |row| row.int(0),
        )?
        .unwrap_or(0);
    let mut totals = rolled_up(reader, base, partner)?;
    add_tail(reader, &mut totals, base, position, partner)?;
    Ok(totals)
}

/// The totals of the roll-up at `position`, of one partner or of all.
pub(crate) fn rolled_up(reader: &Reader<'_>, position: i64, partner: Option<PartnerId>) -> Result<Totals> {
    let filter = if partner.is_some() { " AND partner_id = ?" } else { "" };
    let mut params: Vec<Value<'_>> = vec![position.into()];
    params.extend(partner.as_ref().map(Value::from));
    let sql = format!(
        "SELECT partner_id, currency, kind, campaign_id, gateway, amount_minor, entries FROM ledger_total \
         WHERE position = ?{filter} ORDER BY partner_id, currency, kind, campaign_id, gateway"
    );
    let found = reader.query(&sql, &params, |row| {
        let campaign = row.bytes(3)?.try_into().ok().map(CampaignId::from_bytes);
        let gateway = Some(row.text(4)?.to_owned()).filter(|gateway| !gateway.is_empty());
        Ok(((row.id(0)?, row.text(1)?.to_owned(), row.name(2)?, campaign, gateway), (row.int(5)?, row.int(6)?)))
    })?;
    Ok(found.into_iter().collect())
}

/// Adds the entries at `(after, up_to]`.
pub(crate) fn add_tail(
    reader: &Reader<'_>,
    totals: &mut Totals,
    after: i64,
    up_to: i64,
    partner: Option<PartnerId>,
) -> Result<()> {
    let filter = if partner.is_some() { " AND partner_id = ?" } else { "" };
    let mut params: Vec<Value<'_>> = vec![after.into(), up_to.into()];
    params.extend(partner.as_ref().map(Value::from));
    let sql = format!(
        "SELECT partner_id, currency, kind, campaign_id, gateway, amount_minor FROM ledger_entry \
         WHERE position > ? AND position <= ?{filter} ORDER BY position, line"
    );
    reader.query(&sql, &params, |row| {
        let key =
            (row.id(0)?, row.text(1)?.to_owned(), row.name(2)?, row.opt_id(3)?, row.opt_text(4)?.map(str::to_owned));
        let total = totals.entry(key).or_default();
        *total = total.0.checked_add(row.int(5)?).map(|sum| (sum, total.1 + 1)).ok_or_else(overflow)?;
        Ok(())
    })?;
    Ok(())
}

/// The balances at `position` by partner and currency, of one partner or of all.
pub fn balances(reader: &Reader<'_>, position: i64, partner: Option<PartnerId>) -> Result<Vec<PartnerBalance>> {
    let mut found: BTreeMap<(PartnerId, Currency), Balance> = BTreeMap::new();
    for ((partner_id, currency, kind, _, _), (amount, _)) in totals(reader, position, partner)? {
        let currency: Currency = currency.parse().map_err(Fault::internal)?;
        found.entry((partner_id, currency)).or_default().add(kind, amount).ok_or_else(overflow)?;
    }
    Ok(found
        .into_iter()
        .map(|((partner_id, currency), balance)| PartnerBalance { partner_id, currency, balance })
        .collect())
}

pub(crate) fn overflow() -> Fault {
    Fault::new(&problems::AMOUNT_OVERFLOW, "a balance leaves the range of 64-bit minor units")
}
