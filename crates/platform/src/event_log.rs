//! The event store: append-only, and the order of positions is the order of commits on every database. It must not know
//! what an event means.

use kernel::{EventRecord, NewEvent, Result, Timestamp};

use crate::sql::{OnDuplicate, Reader, Row, Value};
use crate::tx::Tx;

/// Readers divide the log by key into this many shards, so that several processes can share the work.
pub const SHARDS: u8 = 16;

/// The shard of a key, the same for ever: FNV-1a of 64 bits, folded, because it runs once per event and has no enemy.
pub fn shard(subject: &str) -> u8 {
    let hash = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 32 ^ hash).to_be_bytes()[7] % SHARDS
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
    let before = match tx.head {
        Some(head) => head,
        None => head(tx)?,
    };
    tx.head = Some(before);
    if events.is_empty() {
        return Ok(before + 1);
    }
    let (first, last) = (before + 1, before + i64::try_from(events.len()).unwrap_or(i64::MAX));
    tx.execute("UPDATE log_head SET position = ?, known_at = ? WHERE id = 1", &[last.into(), tx.now().into()])?;
    tx.head = Some(last);
    let ids = tx.new_event_ids(events.len());
    let now = tx.now();
    let actor = tx.actor().to_owned();
    let common = tx.correlation_id.clone();
    let correlation = |event: &NewEvent| event.correlation_id.clone().or_else(|| common.clone());
    let correlations: Vec<Option<String>> = events.iter().map(correlation).collect();
    let rows: Vec<[Value<'_>; 11]> = (first..)
        .zip(events.iter().zip(&ids).zip(&correlations))
        .map(|(position, ((event, id), correlation_id))| {
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
                correlation_id.as_deref().into(),
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
        .zip(&correlations)
        .filter_map(|(position, correlation_id)| Some([correlation_id.as_deref()?.into(), position.into()]))
        .collect();
    tx.insert("event_correlation", ["correlationid", "position"], &correlated, OnDuplicate::Fail)?;
    tx.outcome.published = ids.last().map(|&id| (last, id));
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

#[cfg(test)]
mod tests {
    use kernel::Duration;

    use super::*;
    use crate::testing::{START, clock, event, event_of, in_memory, options, publish};
    use crate::{Db, Lane};

    fn at_positions(events: &[EventRecord]) -> Vec<i64> {
        events.iter().map(|event| event.position).collect()
    }

    #[test]
    fn events_come_back_as_published() {
        let db = in_memory();
        publish(&db, &[event("a")]);
        let cause = db.read(|reader| at(reader, &[1])).unwrap().remove(0);
        let mut caused = event("b").caused_by(&cause);
        caused.correlation_id = Some("client".to_owned());
        assert_eq!(publish(&db, &[caused, event("c")]), 2);
        let found = db.read(|reader| at(reader, &[3, 2, 2, 9])).unwrap();
        assert_eq!(at_positions(&found), [2, 3]);
        let one = &found[0];
        assert_eq!((one.subject.as_str(), one.actor.as_str(), one.time), ("b", "tester", START));
        assert_eq!((one.payload.as_str(), one.aggregate.as_str()), ("{\"subject\":\"b\"}", "test"));
        assert_eq!((one.causation_id, one.correlation_id.as_deref()), (Some(cause.id), Some("client")));
        assert_eq!((found[1].causation_id, found[1].correlation_id.as_deref()), (None, None));
    }

    #[test]
    fn publishing_nothing_answers_the_next_position_and_changes_nothing() {
        let db = in_memory();
        publish(&db, &[event("a")]);
        assert_eq!((publish(&db, &[]), db.head()), (2, 1));
        db.write("test", Lane::Front, "tester", |tx| {
            assert_eq!((tx.publish(&[event("b")])?, tx.publish(&[event("c"), event("d")])?), (2, 3));
            Ok(())
        })
        .unwrap();
        assert_eq!(db.head(), 4);
    }

    #[test]
    fn the_log_is_read_by_range_type_subject_correlation_and_from_its_end() {
        let db = in_memory();
        let events: Vec<_> = (1..=10)
            .map(|n| {
                let mut event = event_of(if n % 2 == 0 { "even" } else { "odd" }, if n > 5 { "late" } else { "early" });
                event.correlation_id = (n % 3 == 0).then(|| "client".to_owned());
                event
            })
            .collect();
        publish(&db, &events);
        db.read(|reader| {
            assert_eq!(at_positions(&range(reader, 2, 6, &[], 100)?), [3, 4, 5, 6]);
            assert_eq!(at_positions(&range(reader, 2, 9, &["even"], 2)?), [4, 6]);
            assert_eq!(at_positions(&range(reader, 7, 100, &["even", "odd"], 100)?), [8, 9, 10]);
            assert_eq!(at_positions(&of_subject(reader, "late", 7, 2)?), [8, 9]);
            assert_eq!(at_positions(&of_correlation(reader, "client", 3, 10)?), [6, 9]);
            assert_eq!(at_positions(&newest(reader, 9, 3)?), [8, 7, 6]);
            assert_eq!(at_positions(&newest(reader, i64::MAX, 1)?), [10]);
            Ok(())
        })
        .unwrap();
    }

    #[test]
    fn the_position_known_at_a_time() {
        let clock = clock();
        let db = Db::in_memory(options(&clock, None)).unwrap();
        let second = |n: u32| START.plus(Duration::from_secs(n.into()));
        assert_eq!(db.read(|reader| position_at(reader, START)).unwrap(), 0);
        // Positions 1 at second 0; 2 and 3 at second 1; 4 to 6 at second 2; and so on.
        for n in 0..10 {
            clock.set(second(n));
            publish(&db, &vec![event("a"); usize::try_from(n).unwrap() + 1]);
        }
        let last_of = |n: i64| (n + 1) * (n + 2) / 2;
        for n in 0..10 {
            let known = |time| db.read(|reader| position_at(reader, time)).unwrap();
            assert_eq!(known(second(n)), last_of(n.into()));
            assert_eq!(known(second(n).plus(Duration::from_millis(999))), last_of(n.into()));
            assert_eq!(known(second(n).minus(Duration::from_micros(1))), last_of(i64::from(n) - 1));
        }
        assert_eq!(db.read(|reader| position_at(reader, START.plus_days(9))).unwrap(), 55);
    }

    #[test]
    fn shards_are_stable_and_even() {
        // Stored for ever: a change of the function would scatter a key's events.
        assert_eq!((shard(""), shard("ptr_01h2xcejqtf2nbrexx3vqjhp41")), (1, 8));
        let mut counts = [0; SHARDS as usize];
        (0..16_000).for_each(|n| counts[usize::from(shard(&format!("cnv_{n:026}")))] += 1);
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
    }
}

#[cfg(test)]
mod correlation_tests {
    use kernel::NewEvent;

    use super::of_correlation;
    use crate::{Lane, testing};

    #[test]
    fn a_transaction_gives_its_correlation_id_to_events_without_one() {
        let db = testing::in_memory();
        let event = |correlation_id: Option<&str>| NewEvent {
            event_type: "tests.happened.v1",
            aggregate: "test",
            subject: "a".to_owned(),
            payload: "{}".to_owned(),
            causation_id: None,
            correlation_id: correlation_id.map(str::to_owned),
        };
        let work = |tx: &mut crate::Tx<'_>| {
            tx.correlate(Some("order-7".to_owned()));
            tx.publish(&[event(None), event(Some("its-own"))])
        };
        let first = db.write("test", Lane::Front, "tester", work).unwrap();
        let found = |id: &str| db.read(|reader| of_correlation(reader, id, 0, 10)).unwrap();
        assert_eq!(found("order-7").iter().map(|event| event.position).collect::<Vec<_>>(), [first]);
        assert_eq!(found("its-own").iter().map(|event| event.position).collect::<Vec<_>>(), [first + 1]);
    }
}
