//! The decision at the end of the hold (rules section 7): approved up to the automatic limit, otherwise queued for a
//! person; while the partner is suspended it waits. It is made once, with every fact recorded before the hold's end.

use std::collections::{BTreeMap, BTreeSet};

use events::commissions::CommissionState as State;
use events::conversions::{Recorded, RefundRecorded, TouchRecorded};
use events::partners::{PartnerProfile, PartnerState};
use events::{campaigns, partners};
use kernel::{Event, PartnerId, Result, Timestamp};
use ledger::EntryKind;
use platform::{OnDuplicate, Reader, Tx, consumer, event_log, published};

use crate::commission::{self, COLUMNS, Commission, WAITS_FOR_PARTNER};
use crate::journal::{Journal, change, entry};
use crate::react::{FACTS, NAME};

/// The reaction whose events this context reacts to, and the facts that it turns into them.
const SOURCE: &str = "conversions";
const SOURCE_FACTS: &[&str] = &[
    Recorded::TYPE,
    RefundRecorded::TYPE,
    TouchRecorded::TYPE,
    // What wakes facts that wait, and codes that appear.
    partners::Applied::TYPE,
    partners::Activated::TYPE,
    partners::Rejected::TYPE,
    partners::Updated::TYPE,
    campaigns::Created::TYPE,
    campaigns::Activated::TYPE,
    campaigns::Cancelled::TYPE,
    campaigns::Updated::TYPE,
    campaigns::EnrollmentOpened::TYPE,
];

/// Decides about commissions whose hold has ended, oldest first, at most `limit`; answers how many it looked at, 0 when
/// nothing is due (or the facts before the end of the hold are not known here yet). Set-based.
pub fn end_holds(tx: &mut Tx<'_>, limit: i64) -> Result<usize> {
    let due = "SELECT due_at FROM commission WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at LIMIT 1";
    if tx.query_one(due, &[tx.now().into()], |row| row.time(0))?.is_none() {
        return Ok(0);
    }
    let known_up_to = known_up_to(tx)?;
    let sql = format!(
        "SELECT {COLUMNS} FROM commission WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY due_at, id LIMIT ?"
    );
    let mut rows = tx.query(&sql, &[known_up_to.into(), limit.into()], Commission::read)?;
    let suspended = suspended(tx, &rows)?;
    let mut journal = Journal::default();
    let told: Vec<Option<i64>> = rows
        .iter_mut()
        .map(|row| {
            let kept_minor = row.kept_at_hold_end_minor.take().unwrap_or(row.kept_minor);
            if suspended.contains(&row.partner_id) {
                row.due_at = Some(WAITS_FOR_PARTNER);
                return None;
            }
            row.due_at = None;
            if row.auto_limit_minor.is_some_and(|limit_minor| kept_minor <= limit_minor) {
                Some(approve(row, &mut journal, None))
            } else {
                row.queued = true;
                Some(journal.tell(None, change!(Queued, row, Some(State::Pending), None, &[]), Vec::new()))
            }
        })
        .collect();
    store(tx, &mut rows, &told, journal)?;
    Ok(rows.len())
}

/// Makes a commission payable: an entry of what is kept, if anything is. Answers the event's place in the journal.
pub(crate) fn approve(row: &mut Commission, journal: &mut Journal, reason: Option<&str>) -> i64 {
    let from = std::mem::replace(&mut row.state, State::Approved);
    (row.queued, row.due_at, row.reason) = (false, None, None);
    let entries: Vec<ledger::Entry> =
        (row.kept_minor > 0).then(|| entry(row, EntryKind::Approved, row.kept_minor)).into_iter().collect();
    journal.tell(None, change!(Approved, row, Some(from), reason, &entries), entries)
}

/// Publishes, writes the rows and posts; `told` holds the place in the journal of each row's last event. A row that is
/// approved now is payable as of its event.
pub(crate) fn store(tx: &mut Tx<'_>, rows: &mut [Commission], told: &[Option<i64>], journal: Journal) -> Result<()> {
    let first = journal.publish(tx)?;
    for (row, told) in rows.iter_mut().zip(told) {
        if let Some(told) = told {
            row.position = first + told;
            if row.state == State::Approved {
                row.approved_position = Some(row.position);
            }
        }
    }
    commission::update(tx, &rows.iter().collect::<Vec<_>>())?;
    journal.post(tx, first)
}

/// The partners among those of `rows` that are suspended now.
pub(crate) fn suspended(reader: &Reader<'_>, rows: &[Commission]) -> Result<BTreeSet<PartnerId>> {
    let partners: BTreeSet<PartnerId> = rows.iter().map(|row| row.partner_id).collect();
    let keys: Vec<&[u8]> = partners.iter().map(|id| id.as_bytes().as_slice()).collect();
    let profiles: BTreeMap<Vec<u8>, PartnerProfile> = published::get(reader, &keys)?;
    let is_suspended = |id: &PartnerId| {
        profiles.get(id.as_bytes().as_slice()).is_some_and(|profile| profile.state == PartnerState::Suspended)
    };
    Ok(partners.into_iter().filter(is_suspended).collect())
}

/// Every fact recorded before this instant has had its effect here. Facts become known to `conversions` first and their
/// effects to this reaction later: a hold that has ended waits until both have come that far. While both are busy all the
/// time, the instant and the head of the log at which `conversions` had reached it are remembered, so that it still advances.
fn known_up_to(tx: &mut Tx<'_>) -> Result<Timestamp> {
    let head = event_log::head(tx)?;
    let source = consumer::position(tx, SOURCE)?;
    let source_reached =
        event_log::range(tx, source, head, SOURCE_FACTS, 1)?.first().map_or(tx.now(), |fact| fact.time);
    let own = consumer::position(tx, NAME)?;
    let Some(waiting) = event_log::range(tx, own, head, FACTS, 1)?.first().map(|event| event.position) else {
        return Ok(source_reached);
    };
    let sql = "SELECT known_up_to, position FROM hold_horizon WHERE id = 1";
    let remembered = tx.query_one(sql, &[], |row| Ok((row.time(0)?, row.int(1)?)))?;
    const NEVER: Timestamp = Timestamp::from_micros(i64::MIN);
    match remembered {
        Some((_, position)) if position >= waiting => Ok(NEVER),
        _ => {
            let row = [1.into(), source_reached.into(), head.into()];
            let replace = OnDuplicate::Replace { key: &["id"] };
            tx.insert("hold_horizon", ["id", "known_up_to", "position"], &[row], replace)?;
            Ok(remembered.map_or(NEVER, |(known_up_to, _)| known_up_to))
        }
    }
}
