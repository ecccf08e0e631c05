//! Rolling up: running totals up to a position, so that a balance never reads the whole ledger.

use kernel::Result;
use platform::{OnDuplicate, Tx, Value, event_log};

use crate::balance::{Totals, add_tail};

/// A roll-up is due when this many positions have passed since the last one.
pub const ROLL_UP_ENTRIES: i64 = 8_192;

/// Rolls up if it is due; answers whether it was.
pub fn roll_up(tx: &mut Tx<'_>) -> Result<bool> {
    let sql = "SELECT position FROM ledger_roll_up ORDER BY position DESC LIMIT 1";
    let base = tx.query_one(sql, &[], |row| row.int(0))?.unwrap_or(0);
    let head = event_log::head(tx)?;
    if head - base < ROLL_UP_ENTRIES {
        return Ok(false);
    }
    let mut changed = Totals::new();
    add_tail(tx, &mut changed, base, head, None)?;
    if !changed.is_empty() {
        let before = crate::balance::totals(tx, base, None)?;
        for (key, total) in &mut changed {
            if let Some(earlier) = before.get(key) {
                *total = (total.0 + earlier.0, total.1 + earlier.1);
            }
        }
    }
    let rows: Vec<[Value<'_>; 8]> = changed
        .iter()
        .map(|((partner, currency, kind, campaign, gateway), (amount, entries))| {
            [
                partner.into(),
                currency.into(),
                kind.as_str().into(),
                campaign.as_ref().map_or(&[][..], |id| id.as_bytes()).into(),
                gateway.as_deref().unwrap_or_default().into(),
                head.into(),
                (*amount).into(),
                (*entries).into(),
            ]
        })
        .collect();
    let columns = ["partner_id", "currency", "kind", "campaign_id", "gateway", "position", "amount_minor", "entries"];
    tx.insert("ledger_total", columns, &rows, OnDuplicate::Fail)?;
    tx.insert("ledger_roll_up", ["position", "rolled_up_at"], &[[head.into(), tx.now().into()]], OnDuplicate::Fail)?;
    Ok(true)
}
