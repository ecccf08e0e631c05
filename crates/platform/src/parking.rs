//! Parking: an event that must wait for something is a row with the key that it waits for. What it waits for resumes it,
//! and a sweep retries all, so that a lost wake-up costs only time. It must not know what the keys mean.

use std::collections::BTreeMap;

use kernel::{EventRecord, Result, Timestamp};

use crate::event_log;
use crate::sql::{OnDuplicate, Reader, Row, Value};
use crate::tx::Tx;

/// An event to be parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parking {
    /// The event's position.
    pub position: i64,
    /// What it waits for, for example `partner:ptr_…`.
    pub wait_key: String,
    /// A stable word for people and programs: `partner_unknown`.
    pub reason: &'static str,
}

/// A parked event as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// The consumer that waits.
    pub consumer: String,
    /// The event's position.
    pub position: i64,
    /// What it waits for.
    pub wait_key: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
}

/// Parks events; one that is parked already (or again) keeps its `since` and takes the new key and reason.
pub fn park(tx: &mut Tx<'_>, consumer: &str, parked: &[Parking]) -> Result<()> {
    let now = tx.now();
    // Within one slice an event may wait for one thing, go on, and wait for another: the last holds.
    let last: BTreeMap<i64, &Parking> = parked.iter().map(|one| (one.position, one)).collect();
    let fresh: Vec<[Value<'_>; 5]> = last
        .values()
        .map(|p| [consumer.into(), p.position.into(), (&p.wait_key).into(), p.reason.into(), now.into()])
        .collect();
    tx.insert("parked", ["consumer", "position", "wait_key", "reason", "since"], &fresh, OnDuplicate::Ignore)?;
    let again: Vec<[Value<'_>; 5]> = last
        .values()
        .map(|p| [(&p.wait_key).into(), p.reason.into(), None::<i64>.into(), consumer.into(), p.position.into()])
        .collect();
    tx.update_many("parked", &["wait_key", "reason", "resumed_at"], &["consumer", "position"], &again)?;
    Ok(())
}

/// Resumes the events that wait for one of `wait_keys` and answers them, each with its key, in order of position; the
/// caller handles them in this transaction, and parks again what must still wait.
pub fn resume(tx: &mut Tx<'_>, consumer: &str, wait_keys: &[String]) -> Result<Vec<(String, EventRecord)>> {
    let keys: Vec<[Value<'_>; 1]> = wait_keys.iter().map(|key| [key.into()]).collect();
    // In the order of the index: asked for in the order of positions, SQLite walks over the whole table.
    let sql = "SELECT position, wait_key FROM parked WHERE consumer = ? AND resumed_at IS NULL AND wait_key IN (?*) ORDER BY wait_key, position";
    let found = tx.query_in(sql, &[consumer.into()], &keys, |row| Ok((row.int(0)?, row.text(1)?.to_owned())))?;
    let mut keys: BTreeMap<i64, String> = found.into_iter().collect();
    let events = take(tx, consumer, keys.keys().copied().collect())?;
    Ok(events.into_iter().filter_map(|event| Some((keys.remove(&event.position)?, event))).collect())
}

/// Resumes the longest waiting events, whatever they wait for: the sweep.
pub fn resume_any(tx: &mut Tx<'_>, consumer: &str, after: i64, limit: i64) -> Result<Vec<EventRecord>> {
    let sql = "SELECT position FROM parked WHERE consumer = ? AND resumed_at IS NULL AND position > ? ORDER BY position LIMIT ?";
    let positions = tx.query(sql, &[consumer.into(), after.into(), limit.into()], |row| row.int(0))?;
    take(tx, consumer, positions)
}

fn take(tx: &mut Tx<'_>, consumer: &str, mut positions: Vec<i64>) -> Result<Vec<EventRecord>> {
    positions.sort_unstable();
    positions.dedup();
    let now = tx.now();
    let rows: Vec<[Value<'_>; 3]> = positions.iter().map(|&p| [now.into(), consumer.into(), p.into()]).collect();
    tx.update_many("parked", &["resumed_at"], &["consumer", "position"], &rows)?;
    event_log::at(tx, &positions)
}

/// Those of `consumer`'s events at `positions` that wait.
pub fn waiting(reader: &Reader<'_>, consumer: &str, positions: &[i64]) -> Result<Vec<Parked>> {
    let keys: Vec<[Value<'_>; 1]> = positions.iter().map(|&position| [position.into()]).collect();
    let sql = "SELECT consumer, position, wait_key, reason, since FROM parked \
        WHERE consumer = ? AND resumed_at IS NULL AND position IN (?*) ORDER BY position";
    reader.query_in(sql, &[consumer.into()], &keys, parked)
}

/// What waits, oldest first, after `position`.
pub fn list(reader: &Reader<'_>, after: i64, limit: i64) -> Result<Vec<Parked>> {
    let sql = "SELECT consumer, position, wait_key, reason, since FROM parked \
        WHERE resumed_at IS NULL AND position > ? ORDER BY position LIMIT ?";
    reader.query(sql, &[after.into(), limit.into()], parked)
}

fn parked(row: &Row<'_>) -> Result<Parked> {
    Ok(Parked {
        consumer: row.text(0)?.to_owned(),
        position: row.int(1)?,
        wait_key: row.text(2)?.to_owned(),
        reason: row.text(3)?.to_owned(),
        since: row.time(4)?,
    })
}

/// How many wait now, and how many have been resumed so far.
pub fn count(reader: &Reader<'_>) -> Result<(i64, i64)> {
    let sql = "SELECT CAST(COUNT(*) AS BIGINT), CAST(COUNT(resumed_at) AS BIGINT) FROM parked";
    let counts = reader.query_one(sql, &[], |row| Ok((row.int(0)?, row.int(1)?)))?;
    let (all, resumed) = counts.unwrap_or((0, 0));
    Ok((all - resumed, resumed))
}

#[cfg(test)]
mod tests;
