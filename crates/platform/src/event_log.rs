//! The event store: append-only, and the order of positions is the order of commits on every database. It must not know
//! what an event means.

use kernel::{EventRecord, NewEvent, Result, Timestamp, digest16};

use crate::sql::{OnDuplicate, Reader, Row, Value};
use crate::tx::Tx;

/// Readers divide the log by key into this many shards, so that several processes can share the work.
pub const SHARDS: u8 = 16;

/// The shard of a key.
pub fn shard(subject: &str) -> u8 {
    digest16(&[subject.as_bytes()])[0] % SHARDS
}

const COLUMNS: &str =
    "position, id, aggregatetype, aggregateid, type, payload, occurred_at, actor, causationid, correlationid";

fn record(row: &Row<'_>) -> Result<EventRecord> {
    Ok(EventRecord {
        position: row.int(0)?,
        id: row.id(1)?,
        aggregate: row.text(2)?.to_owned(),
        subject: row.text(3)?.to_owned(),
        event_type: row.text(4)?.to_owned(),
        payload: row.text(5)?.to_owned(),
        time: row.time(6)?,
        actor: row.text(7)?.to_owned(),
        causation_id: row.opt_id(8)?,
        correlation_id: row.opt_text(9)?.map(str::to_owned),
    })
}

pub(crate) fn append(tx: &mut Tx<'_>, events: &[NewEvent]) -> Result<i64> {
    if events.is_empty() {
        return Ok(head(tx)? + 1);
    }
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    tx.execute(
        "UPDATE log_head SET position = position + ?, known_at = ? WHERE id = 1",
        &[count.into(), tx.now().into()],
    )?;
    let last = head(tx)?;
    let first = last - count + 1;
    let ids: Vec<_> = events.iter().map(|_| tx.new_id::<kernel::EventId>()).map(|id| *id.as_bytes()).collect();
    let now = tx.now();
    let actor = tx.actor().to_owned();
    let rows: Vec<[Value<'_>; 11]> = (first..)
        .zip(events.iter().zip(&ids))
        .map(|(position, (event, id))| {
            [
                position.into(),
                id.into(),
                event.aggregate.into(),
                (&event.subject).into(),
                event.event_type.into(),
                (&event.payload).into(),
                now.into(),
                i64::from(shard(&event.subject)).into(),
                (&actor).into(),
                event.causation_id.as_ref().into(),
                event.correlation_id.as_deref().into(),
            ]
        })
        .collect();
    let columns = [
        "position",
        "id",
        "aggregatetype",
        "aggregateid",
        "type",
        "payload",
        "occurred_at",
        "shard",
        "actor",
        "causationid",
        "correlationid",
    ];
    tx.insert("outbox_event", columns, &rows, OnDuplicate::Fail)?;
    let correlated: Vec<[Value<'_>; 2]> = (first..)
        .zip(events)
        .filter_map(|(position, event)| Some([event.correlation_id.as_deref()?.into(), position.into()]))
        .collect();
    tx.insert("event_correlation", ["correlationid", "position"], &correlated, OnDuplicate::Fail)?;
    tx.outcome.head = Some(last);
    Ok(first)
}

/// The last position of the log; 0 when it is empty.
pub fn head(reader: &Reader<'_>) -> Result<i64> {
    let head = reader.query_one("SELECT position FROM log_head WHERE id = 1", &[], |row| row.int(0))?;
    Ok(head.unwrap_or(0))
}

/// The events at `(after, up_to]` whose type is one of `types` (all types when empty), in order, at most `limit`.
pub fn range(reader: &Reader<'_>, after: i64, up_to: i64, types: &[&str], limit: usize) -> Result<Vec<EventRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let filter =
        if types.is_empty() { String::new() } else { format!(" AND type IN ({})", vec!["?"; types.len()].join(", ")) };
    let sql = format!(
        "SELECT {COLUMNS} FROM outbox_event WHERE position > ? AND position <= ?{filter} ORDER BY position LIMIT ?"
    );
    let mut params: Vec<Value<'_>> = vec![after.into(), up_to.into()];
    params.extend(types.iter().map(|&name| Value::from(name)));
    params.push(limit.into());
    reader.query(&sql, &params, record)
}

/// The events at these positions, in order of position.
pub fn at(reader: &Reader<'_>, positions: &[i64]) -> Result<Vec<EventRecord>> {
    let keys: Vec<[Value<'_>; 1]> = positions.iter().map(|&position| [position.into()]).collect();
    let sql = format!("SELECT {COLUMNS} FROM outbox_event WHERE position IN (?*) ORDER BY position");
    let mut found = reader.query_in(&sql, &[], &keys, record)?;
    found.sort_by_key(|event| event.position);
    Ok(found)
}

/// The history of one aggregate, in order.
pub fn of_subject(reader: &Reader<'_>, subject: &str, after: i64, limit: usize) -> Result<Vec<EventRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql =
        format!("SELECT {COLUMNS} FROM outbox_event WHERE aggregateid = ? AND position > ? ORDER BY position LIMIT ?");
    reader.query(&sql, &[subject.into(), after.into(), limit.into()], record)
}

/// The histories of many aggregates, as far as their events are of one of `types` (all types when empty), in order of
/// subject and position within each 512 subjects: for checks, which read all of them, in pieces.
pub fn of_subjects(reader: &Reader<'_>, subjects: &[&str], types: &[&str]) -> Result<Vec<EventRecord>> {
    let filter =
        if types.is_empty() { String::new() } else { format!("type IN ({}) AND ", vec!["?"; types.len()].join(", ")) };
    let sql =
        format!("SELECT {COLUMNS} FROM outbox_event WHERE {filter}aggregateid IN (?*) ORDER BY aggregateid, position");
    let params: Vec<Value<'_>> = types.iter().map(|&name| Value::from(name)).collect();
    let keys: Vec<[Value<'_>; 1]> = subjects.iter().map(|&subject| [subject.into()]).collect();
    reader.query_in(&sql, &params, &keys, record)
}

/// The events that carry a client's correlation id, in order.
pub fn of_correlation(reader: &Reader<'_>, correlation_id: &str, after: i64, limit: usize) -> Result<Vec<EventRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql =
        "SELECT position FROM event_correlation WHERE correlationid = ? AND position > ? ORDER BY position LIMIT ?";
    let positions = reader.query(sql, &[correlation_id.into(), after.into(), limit.into()], |row| row.int(0))?;
    at(reader, &positions)
}

/// The newest events before `before`, newest first.
pub fn newest(reader: &Reader<'_>, before: i64, limit: usize) -> Result<Vec<EventRecord>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT {COLUMNS} FROM outbox_event WHERE position < ? ORDER BY position DESC LIMIT ?");
    reader.query(&sql, &[before.into(), limit.into()], record)
}

/// The last position that was known at `time`; 0 when nothing was. Known times never decrease with positions.
pub fn position_at(reader: &Reader<'_>, time: Timestamp) -> Result<i64> {
    let (mut low, mut high) = (0, head(reader)?);
    while low < high {
        let middle = low + (high - low + 1) / 2;
        let known =
            reader.query_one("SELECT occurred_at FROM outbox_event WHERE position = ?", &[middle.into()], |row| {
                row.time(0)
            })?;
        if known.is_some_and(|known| known <= time) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    Ok(low)
}
