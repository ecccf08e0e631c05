//! Dead letters: events that a consumer could not handle, with the reason. Later events of the same subject wait behind
//! it, in order, until somebody replays or skips it; other subjects go on.

use kernel::{DeadLetterId, EventRecord, Fault, Kind, Problem, Result, Timestamp};

use crate::event_log;
use crate::sql::{OnDuplicate, Reader, Value};
use crate::tx::Tx;

/// A dead letter as listed.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Its id.
    pub id: DeadLetterId,
    /// The consumer that failed.
    pub consumer: String,
    /// The event.
    pub event: EventRecord,
    /// `failed`, or `waiting` behind a failed one of the same subject.
    pub state: String,
    /// What went wrong.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

const UNKNOWN: Problem = Problem::new(
    Kind::NotFound,
    "dead_letter_not_found",
    "There is no open dead letter with this id.",
    "List the open ones with GET /v1/dead-letters.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&UNKNOWN];

/// The subjects among `subjects` that have open dead letters of `consumer`.
pub(crate) fn blocked(reader: &Reader<'_>, consumer: &str, subjects: &[&str]) -> Result<Vec<String>> {
    let keys: Vec<[Value<'_>; 1]> = subjects.iter().map(|&subject| [subject.into()]).collect();
    let sql = "SELECT DISTINCT subject FROM dead_letter WHERE consumer = ? AND resolved_at IS NULL AND subject IN (?*)";
    reader.query_in(sql, &[consumer.into()], &keys, |row| Ok(row.text(0)?.to_owned()))
}

/// Whether `consumer` has any open dead letter: the common answer is no, and then nothing else is asked.
pub(crate) fn any(reader: &Reader<'_>, consumer: &str) -> Result<bool> {
    let sql = "SELECT position FROM dead_letter WHERE consumer = ? AND resolved_at IS NULL LIMIT 1";
    Ok(reader.query_one(sql, &[consumer.into()], |row| row.int(0))?.is_some())
}

pub(crate) fn add(tx: &mut Tx<'_>, consumer: &str, events: &[(&EventRecord, &str, String)]) -> Result<()> {
    let ids: Vec<DeadLetterId> = events.iter().map(|_| tx.new_id()).collect();
    let now = tx.now();
    let rows: Vec<[Value<'_>; 7]> = events
        .iter()
        .zip(&ids)
        .map(|((event, state, reason), id)| {
            [
                id.into(),
                consumer.into(),
                event.position.into(),
                (&event.subject).into(),
                (*state).into(),
                reason.into(),
                now.into(),
            ]
        })
        .collect();
    tx.insert(
        "dead_letter",
        ["id", "consumer", "position", "subject", "state", "reason", "since"],
        &rows,
        OnDuplicate::Fail,
    )
}

/// The open dead letters, oldest first, after the letter `after`.
pub fn list(reader: &Reader<'_>, after: Option<DeadLetterId>, limit: i64) -> Result<Vec<DeadLetter>> {
    let after = after.unwrap_or(DeadLetterId::from_bytes([0; 16]));
    let sql = "SELECT id, consumer, position, state, reason, since FROM dead_letter \
        WHERE resolved_at IS NULL AND id > ? ORDER BY id LIMIT ?";
    let rows = reader.query(sql, &[(&after).into(), limit.into()], |row| {
        Ok((
            row.id(0)?,
            row.text(1)?.to_owned(),
            row.int(2)?,
            row.text(3)?.to_owned(),
            row.text(4)?.to_owned(),
            row.time(5)?,
        ))
    })?;
    let positions: Vec<i64> = rows.iter().map(|row| row.2).collect();
    let events = event_log::at(reader, &positions)?;
    rows.into_iter()
        .map(|(id, consumer, position, state, reason, since)| {
            let event = events.iter().find(|event| event.position == position).cloned();
            let event = event.ok_or_else(|| Fault::internal(format!("no event at {position}")))?;
            Ok(DeadLetter { id, consumer, event, state, reason, since })
        })
        .collect()
}

/// How many are open.
pub fn count(reader: &Reader<'_>) -> Result<i64> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT) FROM dead_letter WHERE resolved_at IS NULL";
    Ok(reader.query_one(sql, &[], |row| row.int(0))?.unwrap_or(0))
}

/// The consumer and the subject of an open letter. Fault: `dead_letter_not_found`.
pub(crate) fn open(reader: &Reader<'_>, id: DeadLetterId) -> Result<(String, String)> {
    let sql = "SELECT consumer, subject FROM dead_letter WHERE id = ? AND resolved_at IS NULL";
    let found = reader.query_one(sql, &[(&id).into()], |row| Ok((row.text(0)?.to_owned(), row.text(1)?.to_owned())))?;
    found.ok_or_else(|| Fault::new(&UNKNOWN, format!("{id} is not open")))
}

/// The first open letter of a subject: the one that the others wait for.
pub(crate) fn first(reader: &Reader<'_>, consumer: &str, subject: &str) -> Result<Option<(DeadLetterId, EventRecord)>> {
    let sql = "SELECT id, position FROM dead_letter WHERE consumer = ? AND resolved_at IS NULL AND subject = ? \
        ORDER BY position LIMIT 1";
    let letter = reader.query_one(sql, &[consumer.into(), subject.into()], |row| Ok((row.id(0)?, row.int(1)?)))?;
    let Some((id, position)) = letter else { return Ok(None) };
    let event = event_log::at(reader, &[position])?.pop();
    let event = event.ok_or_else(|| Fault::internal(format!("no event at {position}")))?;
    Ok(Some((id, event)))
}

/// Notes why the first open letter of a subject failed again.
pub(crate) fn failed_again(tx: &mut Tx<'_>, consumer: &str, subject: &str, fault: &Fault) -> Result<()> {
    let Some((id, _)) = first(tx, consumer, subject)? else { return Ok(()) };
    let reason = fault.to_string();
    tx.execute("UPDATE dead_letter SET state = 'failed', reason = ? WHERE id = ?", &[(&reason).into(), (&id).into()])?;
    Ok(())
}

pub(crate) fn resolve(tx: &mut Tx<'_>, id: DeadLetterId, state: &str) -> Result<()> {
    let now = tx.now();
    tx.execute(
        "UPDATE dead_letter SET state = ?, resolved_at = ? WHERE id = ?",
        &[state.into(), now.into(), (&id).into()],
    )?;
    Ok(())
}

pub(crate) fn resolve_all(tx: &mut Tx<'_>, consumer: &str, state: &str) -> Result<()> {
    let now = tx.now();
    tx.execute(
        "UPDATE dead_letter SET state = ?, resolved_at = ? WHERE consumer = ? AND resolved_at IS NULL",
        &[state.into(), now.into(), consumer.into()],
    )?;
    Ok(())
}
