//! What payouts do to commissions: they go into a payout, are paid, or come back. The money itself is posted by the payouts;
//! here only states change. A payout may touch tens of thousands of commissions, so they are handled in chunks.

use events::commissions::CommissionState as State;
use events::payments::{ItemCancelled, ItemFailed, ItemReturned, ItemSettled, PayoutCreated, PayoutLine};
use kernel::{CommissionId, Event, EventRecord, PartnerId, PayoutItemId, Result};
use platform::{Tx, Value};

use crate::commission::{self, COLUMNS, Commission};
use crate::journal::{Journal, change};

/// How many commissions are in memory at once.
const CHUNK: usize = 2_048;

/// Follows payouts and their items, one event after the other.
pub(crate) fn react(tx: &mut Tx<'_>, run: &[EventRecord]) -> Result<()> {
    for record in run {
        match record.event_type.as_str() {
            PayoutCreated::TYPE => created(tx, record, &record.decode()?)?,
            ItemSettled::TYPE => {
                let event: ItemSettled = record.decode()?;
                settled(tx, record, event.partner_id, event.payout_item_id)?;
            }
            ItemFailed::TYPE => {
                let event: ItemFailed = record.decode()?;
                undone(tx, record, event.partner_id, event.payout_item_id, "item_failed")?;
            }
            ItemReturned::TYPE => {
                let event: ItemReturned = record.decode()?;
                undone(tx, record, event.partner_id, event.payout_item_id, "item_returned")?;
            }
            _ => {
                let event: ItemCancelled = record.decode()?;
                undone(tx, record, event.partner_id, event.payout_item_id, "item_cancelled")?;
            }
        }
    }
    Ok(())
}

fn created(tx: &mut Tx<'_>, record: &EventRecord, event: &PayoutCreated) -> Result<()> {
    for line in &event.items {
        let start = |row: &mut Commission, journal: &mut Journal| {
            (row.state, row.payout_item_id) = (State::InPayout, Some(line.payout_item_id));
            journal.tell(Some(record), change!(PayoutStarted, row, Some(State::Approved), None, &[]), Vec::new())
        };
        if line.commission_ids.is_empty() {
            let sql = format!(
                "SELECT {COLUMNS} FROM commission WHERE partner_id = ? AND state = 'approved' AND currency = ? \
                 AND approved_position <= ? AND id > ? ORDER BY id LIMIT {CHUNK}"
            );
            let currency = event.currency.as_str();
            let params = [(&line.partner_id).into(), currency.into(), event.cut_off_position.into()];
            each_chunk(tx, &sql, &params, start)?;
        } else {
            chosen(tx, event, line, start)?;
        }
    }
    Ok(())
}

/// Only the commissions that the payout names, as far as they are payable.
fn chosen(
    tx: &mut Tx<'_>,
    event: &PayoutCreated,
    line: &PayoutLine,
    mut change: impl FnMut(&mut Commission, &mut Journal) -> i64,
) -> Result<()> {
    for ids in line.commission_ids.chunks(CHUNK) {
        let mut rows = commission::by_id(tx, ids)?;
        rows.retain(|row| {
            (row.state, row.partner_id, row.currency) == (State::Approved, line.partner_id, event.currency)
        });
        // A list that repeats an id still means it once.
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        store(tx, rows, &mut change)?;
    }
    Ok(())
}

fn settled(tx: &mut Tx<'_>, record: &EventRecord, partner: PartnerId, item: PayoutItemId) -> Result<()> {
    let sql = format!(
        "SELECT {COLUMNS} FROM commission WHERE partner_id = ? AND payout_item_id = ? AND state = 'in_payout' \
         AND id > ? ORDER BY id LIMIT {CHUNK}"
    );
    each_chunk(tx, &sql, &[(&partner).into(), (&item).into()], |row, journal| {
        row.state = State::Paid;
        journal.tell(Some(record), change!(PaidOut, row, Some(State::InPayout), None, &[]), Vec::new())
    })
}

/// Payable again, as of the event that says so: a payout whose cut-off lies before it does not pay it.
fn undone(tx: &mut Tx<'_>, record: &EventRecord, partner: PartnerId, item: PayoutItemId, reason: &str) -> Result<()> {
    let sql = format!(
        "SELECT {COLUMNS} FROM commission WHERE partner_id = ? AND payout_item_id = ? \
         AND state IN ('in_payout', 'paid') AND id > ? ORDER BY id LIMIT {CHUNK}"
    );
    each_chunk(tx, &sql, &[(&partner).into(), (&item).into()], |row, journal| {
        let from = std::mem::replace(&mut row.state, State::Approved);
        let told = journal.tell(Some(record), change!(PayoutUndone, row, Some(from), Some(reason), &[]), Vec::new());
        (row.payout_item_id, row.approved_position) = (None, Some(record.position));
        told
    })
}

/// Changes the commissions that `sql` finds; its last parameter is the id after which the next chunk begins. `change`
/// answers the place of its event in the journal.
fn each_chunk(
    tx: &mut Tx<'_>,
    sql: &str,
    params: &[Value<'_>],
    mut change: impl FnMut(&mut Commission, &mut Journal) -> i64,
) -> Result<()> {
    let mut after = CommissionId::from_bytes([0; 16]);
    loop {
        let params: Vec<Value<'_>> = params.iter().copied().chain([(&after).into()]).collect();
        let rows = tx.query(sql, &params, Commission::read)?;
        let full = rows.len() == CHUNK;
        let Some(last) = rows.last().map(|row| row.id) else { return Ok(()) };
        store(tx, rows, &mut change)?;
        if !full {
            return Ok(());
        }
        after = last;
    }
}

fn store(
    tx: &mut Tx<'_>,
    mut rows: Vec<Commission>,
    change: &mut impl FnMut(&mut Commission, &mut Journal) -> i64,
) -> Result<()> {
    let mut journal = Journal::default();
    for row in &mut rows {
        row.position = change(row, &mut journal);
    }
    let first = journal.publish(tx)?;
    for row in &mut rows {
        row.position += first;
    }
    commission::update(tx, &rows.iter().collect::<Vec<_>>())
}
