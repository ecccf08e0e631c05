//! Rolling up: running totals up to a position, so that a balance never reads the whole ledger.

use kernel::Result;
use platform::{OnDuplicate, Tx, Value, event_log};

use crate::balance::totals;

/// A roll-up is due when this many positions have passed since the last one, or more when there are many totals.
pub const ROLL_UP_ENTRIES: i64 = 8_192;
/// Positions per total at least: a roll-up writes all totals, and must stay cheap against what it saves.
const POSITIONS_PER_TOTAL: i64 = 4;

/// Rolls up if it is due; answers whether it was.
pub fn roll_up(tx: &mut Tx<'_>) -> Result<bool> {
    let sql = "SELECT position, totals FROM ledger_roll_up ORDER BY position DESC LIMIT 1";
    let (base, size) = tx.query_one(sql, &[], |row| Ok((row.int(0)?, row.int(1)?)))?.unwrap_or((0, 0));
    let head = event_log::head(tx)?;
    if head - base < ROLL_UP_ENTRIES.max(size.saturating_mul(POSITIONS_PER_TOTAL)) {
        return Ok(false);
    }
    roll_up_at(tx, head)?;
    Ok(true)
}

pub(crate) fn roll_up_at(tx: &mut Tx<'_>, head: i64) -> Result<()> {
    let totals = totals(tx, head, None)?;
    let rows: Vec<[Value<'_>; 8]> = totals
        .iter()
        .map(|((partner, currency, kind, campaign, gateway), (amount, entries))| {
            [
                head.into(),
                partner.into(),
                currency.into(),
                kind.as_str().into(),
                campaign.as_ref().map_or(&[][..], |id| id.as_bytes()).into(),
                gateway.as_deref().unwrap_or_default().into(),
                (*amount).into(),
                (*entries).into(),
            ]
        })
        .collect();
    let columns = ["position", "partner_id", "currency", "kind", "campaign_id", "gateway", "amount_minor", "entries"];
    tx.insert("ledger_total", columns, &rows, OnDuplicate::Fail)?;
    let size = i64::try_from(rows.len()).unwrap_or(i64::MAX);
    let row = [head.into(), size.into(), tx.now().into()];
    tx.insert("ledger_roll_up", ["position", "totals", "rolled_up_at"], &[row], OnDuplicate::Fail)
}
