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
