use super::*;
use crate::testing::{event, in_memory, int, publish};
use crate::{Db, Lane};

const COUNT: i64 = 10_000;

/// A log of 10,000 events, sealed in three blocks.
fn sealed() -> Db {
    let db = in_memory();
    let events: Vec<_> = (0..COUNT)
        .map(|n| {
            let mut event = event(&format!("s{n}"));
            event.correlation_id = (n % 2 == 0).then(|| "client".to_owned());
            event.causation_id = (n % 2 == 1).then(|| kernel::EventId::from_bytes([7; 16]));
            event
        })
        .collect();
    publish(&db, &events);
    while seal(&db) > 0 {}
    assert_eq!(int(&db, "SELECT CAST(COUNT(*) AS BIGINT) FROM seal"), 3);
    db
}

fn seal(db: &Db) -> usize {
    step(db).unwrap()
}

fn tamper(db: &Db, sql: &str) {
    assert!(db.write("test", Lane::Back, "nobody", |tx| tx.execute(sql, &[])).unwrap() > 0, "{sql}");
}

/// What verify finds after `sql`, which is then undone.
fn found(db: &Db, sql: &str) -> String {
    let mut words = None;
    let _ = db.write("test", Lane::Back, "nobody", |tx| {
        for statement in sql.split(';') {
            assert!(tx.execute(statement, &[])? > 0, "{statement}");
        }
        words = verify(tx)?.0;
        Err::<(), _>(kernel::Fault::internal("undone"))
    });
    words.unwrap_or_else(|| panic!("not found: {sql}"))
}

#[test]
fn an_untouched_log_verifies_sealed_or_not() {
    let db = in_memory();
    assert_eq!(db.read(verify).unwrap(), (None, 0));
    assert_eq!(seal(&db), 0);
    publish(&db, &[event("a"), event("b")]);
    assert_eq!(db.read(verify).unwrap(), (None, 0));
    assert_eq!((seal(&db), seal(&db)), (2, 0));
    publish(&db, &[event("c")]);
    assert_eq!(db.read(verify).unwrap(), (None, 2));
    assert_eq!(db.read(last).unwrap().unwrap().last_position, 2);
    let db = sealed();
    assert_eq!(db.read(verify).unwrap(), (None, COUNT));
}

#[test]
fn any_changed_column_of_any_event_is_found_with_its_block() {
    let db = sealed();
    let id = format!("id = {}", db.bytes_literal("00000000000000000000000000000000"));
    let mut changes = vec![
        id.as_str(),
        "aggregatetype = 'other'",
        "aggregateid = 'other'",
        "type = 'other'",
        "payload = payload || ' '",
        "occurred_at = occurred_at + 1",
        "shard = shard + 1",
        "actor = 'other'",
    ];
    if !db.is_shared() {
        // Other databases keep a column's type and have no such text.
        changes.extend(["payload = CAST(payload AS BLOB)", "actor = 'tester' || CAST(X'00' AS TEXT)"]);
    }
    for change in changes {
        for (position, block) in
            [(1, "1 to 4096"), (4_096, "1 to 4096"), (4_097, "4097 to 8192"), (COUNT, "8193 to 10000")]
        {
            let words = found(&db, &format!("UPDATE outbox_event SET {change} WHERE position = {position}"));
            assert_eq!(words, format!("the events at positions {block} do not match their seal"), "{change}");
        }
    }
    // Position 2 has a cause, position 1 a correlation: a null is not an empty text.
    let cause = format!("causationid = {} WHERE position = 1", db.bytes_literal("00000000000000000000000000000000"));
    for change in [
        "causationid = NULL WHERE position = 2",
        cause.as_str(),
        "correlationid = NULL WHERE position = 1",
        "correlationid = '' WHERE position = 2",
    ] {
        found(&db, &format!("UPDATE outbox_event SET {change}"));
    }
}

#[test]
fn a_removed_moved_or_added_event_is_found_with_its_position() {
    let db = sealed();
    for position in [1, 5_000, COUNT] {
        let words = found(&db, &format!("DELETE FROM outbox_event WHERE position = {position}"));
        assert_eq!(words, format!("position {position} is missing from the log"));
    }
    let swap = "UPDATE outbox_event SET position = -1 WHERE position = 10;\
        UPDATE outbox_event SET position = 10 WHERE position = 11;UPDATE outbox_event SET position = 11 WHERE position = -1";
    assert!(found(&db, swap).contains("1 to 4096"));
    publish(&db, &[event("x"), event("y")]);
    let words = found(&db, "DELETE FROM outbox_event WHERE position = 10001");
    assert_eq!(words, "position 10001 is missing from the log", "also beyond the last block");
}

#[test]
fn a_changed_head_or_chain_is_found() {
    let db = sealed();
    for position in [COUNT - 1, COUNT + 1, 0] {
        let words = found(&db, &format!("UPDATE log_head SET position = {position}"));
        assert_eq!(words, format!("the log's head is {position}, but its last event is at position 10000"));
    }
    found(&db, "DELETE FROM outbox_event WHERE position > 9000");
    for column in ["hash", "previous_hash"] {
        let change = format!("{column} = {}", db.bytes_literal("00"));
        assert!(found(&db, &format!("UPDATE seal SET {change} WHERE last_position = 8192")).contains("4097 to 8192"));
    }
    found(&db, "DELETE FROM seal WHERE last_position = 4096");
    found(&db, "UPDATE seal SET last_position = 4095 WHERE last_position = 4096");
    tamper(&db, "UPDATE outbox_event SET payload = '{}' WHERE position = 5000");
    assert_eq!(db.read(verify).unwrap().1, 4_096, "all is well up to there");
}
