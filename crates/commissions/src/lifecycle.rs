//! What people do with commissions: approve, reject, hold, release; one or many, set-based.

use std::collections::BTreeMap;

use events::commissions::CommissionState as State;
use kernel::{CommissionId, Fault, Move, Reason, Result};
use ledger::EntryKind;
use platform::Tx;

use crate::book::{release_bonuses, store_spend};
use crate::commission::{self, Commission};
use crate::end_holds::{approve, store, suspended};
use crate::journal::{Journal, change, entry};
use crate::model::{CommissionAction, LIFECYCLE};
use crate::problems;
use crate::views::CommissionView;

/// Changes the state of a commission. Asking for what is already so answers it and tells nothing. Faults:
/// `commission_not_found`, `illegal_transition`, `partner_suspended` (approve).
pub fn change(
    tx: &mut Tx<'_>,
    id: CommissionId,
    action: CommissionAction,
    reason: Option<Reason>,
) -> Result<CommissionView> {
    let mut results = apply(tx, &[id], action, reason.as_ref().map(Reason::as_str))?;
    results.pop().map_or_else(|| Err(not_found(id)), |(_, result)| result)?;
    crate::views::one(tx, id)
}

/// Approves many commissions; answers a result per id, in the order of `ids`, with the faults of [`change`]. One that
/// cannot be approved does not hold up the others.
pub fn approve_many(tx: &mut Tx<'_>, ids: &[CommissionId]) -> Result<Vec<(CommissionId, Result<()>)>> {
    apply(tx, ids, CommissionAction::Approve, None)
}

fn not_found(id: CommissionId) -> Fault {
    Fault::new(&problems::NOT_FOUND, format!("there is no commission {id}"))
}

fn apply(
    tx: &mut Tx<'_>,
    ids: &[CommissionId],
    action: CommissionAction,
    reason: Option<&str>,
) -> Result<Vec<(CommissionId, Result<()>)>> {
    let mut rows = commission::by_id(tx, ids)?;
    rows.sort_by_key(|row| row.id);
    rows.dedup_by_key(|row| row.id);
    let suspended = if action == CommissionAction::Approve { suspended(tx, &rows)? } else { Default::default() };
    let mut journal = Journal::default();
    let mut told = vec![None; rows.len()];
    let mut results = Vec::with_capacity(ids.len());
    for id in ids {
        let Ok(index) = rows.binary_search_by_key(id, |row| row.id) else {
            results.push((*id, Err(not_found(*id))));
            continue;
        };
        let row = &mut rows[index];
        let result = LIFECYCLE.act(row.state, action).and_then(|outcome| match outcome {
            Move::Already => Ok(()),
            Move::To(_) if suspended.contains(&row.partner_id) => {
                let detail = format!("{} of {id} is suspended", row.partner_id);
                Err(Fault::new(&problems::PARTNER_SUSPENDED, detail))
            }
            Move::To(_) => {
                told[index] = Some(act(row, action, reason, &mut journal));
                Ok(())
            }
        });
        results.push((*id, result));
    }
    let mut index = 0;
    rows.retain(|_| {
        index += 1;
        told[index - 1].is_some()
    });
    told.retain(Option::is_some);
    store(tx, &mut rows, &told, journal)?;
    if action == CommissionAction::Reject {
        let mut freed = BTreeMap::new();
        for row in &rows {
            *freed.entry(row.campaign_id).or_insert(0) -= row.kept_minor;
        }
        store_spend(tx, &freed)?;
        release_bonuses(tx, &rows)?;
    }
    Ok(results)
}

/// Does one legal change; answers the event's place in the journal.
fn act(row: &mut Commission, action: CommissionAction, reason: Option<&str>, journal: &mut Journal) -> i64 {
    let from = Some(row.state);
    match action {
        CommissionAction::Approve => approve(row, journal, reason),
        CommissionAction::Reject => {
            let entries: Vec<ledger::Entry> =
                (row.kept_minor > 0).then(|| entry(row, EntryKind::Rejected, row.kept_minor)).into_iter().collect();
            (row.state, row.queued, row.due_at) = (State::Rejected, false, None);
            row.reason = reason.map(str::to_owned);
            journal.tell(None, change!(Rejected, row, from, reason, &entries), entries)
        }
        CommissionAction::Hold => {
            (row.state, row.due_at, row.reason) = (State::Held, None, reason.map(str::to_owned));
            journal.tell(None, change!(Held, row, from, reason, &[]), Vec::new())
        }
        CommissionAction::Release => {
            // One that was queued goes back to the queue: the decision at the end of the hold is made once.
            (row.state, row.reason) = (State::Pending, None);
            row.due_at = (!row.queued).then_some(row.hold_ends_at);
            journal.tell(None, change!(Released, row, from, reason, &[]), Vec::new())
        }
    }
}
