use std::sync::atomic::Ordering;

use kernel::PartnerId;

use super::*;
use crate::testing::{START, in_memory, int};
use crate::tx::Tx;
use crate::{Db, Lane};

fn write<T>(db: &Db, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> T {
    db.write("test", Lane::Front, "tester", work).unwrap()
}

fn fill(db: &Db, count: i64) {
    let rows: Vec<[Value<'_>; 2]> = (1..=count).map(|id| [id.into(), (id * 10).into()]).collect();
    write(db, |tx| tx.insert("item", ["id", "amount"], &rows, OnDuplicate::Fail));
}

fn statements(db: &Db, work: impl FnOnce()) -> u64 {
    let before = db.stats().statements.load(Ordering::Relaxed);
    work();
    db.stats().statements.load(Ordering::Relaxed) - before
}

#[test]
fn lists_of_every_length_find_each_row_once() {
    let db = in_memory();
    fill(&db, 2_000);
    for count in [0, 1, 2, 8, 9, 64, 65, 512, 513, 600, 1_025] {
        let keys: Vec<[Value<'_>; 1]> = (0..count).map(|n| [(n * 3 + 1).into()]).collect();
        let sql = "SELECT id FROM item WHERE amount >= ? AND id IN (?*) ORDER BY id";
        let mut found = db.read(|reader| reader.query_in(sql, &[0.into()], &keys, |row| row.int(0))).unwrap();
        found.sort_unstable();
        let expected: Vec<i64> = (0..count).map(|n| n * 3 + 1).filter(|id| *id <= 2_000).collect();
        assert_eq!(found, expected, "{count} keys");
    }
}

#[test]
fn a_key_that_is_named_twice_has_its_rows_once() {
    let db = in_memory();
    fill(&db, 3);
    for count in [2, 600, 1_200] {
        let keys: Vec<[Value<'_>; 1]> = (0..count).map(|n| [(n % 2 + 1).into()]).collect();
        let sql = "SELECT id FROM item WHERE id IN (?*) ORDER BY id";
        let found = db.read(|reader| reader.query_in(sql, &[], &keys, |row| row.int(0))).unwrap();
        assert_eq!(found, [1, 2], "{count} keys");
    }
}

#[test]
fn pairs_are_found_as_pairs() {
    let db = in_memory();
    let rows: Vec<[Value<'_>; 3]> =
        (0..700).flat_map(|a| [[a.into(), "x".into(), 1.into()], [a.into(), "y".into(), 2.into()]]).collect();
    write(&db, |tx| tx.insert("pair", ["a", "b", "amount"], &rows, OnDuplicate::Fail));
    for count in [1, 2, 8, 100, 512, 600] {
        let keys: Vec<[Value<'_>; 2]> =
            (0..count).map(|a| [a.into(), if a % 2 == 0 { "x".into() } else { "y".into() }]).collect();
        let sql = "SELECT a, amount FROM pair WHERE (a, b) IN (?*) ORDER BY a";
        let mut found =
            db.read(|reader| reader.query_in(sql, &[], &keys, |row| Ok((row.int(0)?, row.int(1)?)))).unwrap();
        found.sort_unstable();
        let expected: Vec<(i64, i64)> = (0..count).map(|a| (a, a % 2 + 1)).collect();
        assert_eq!(found, expected, "{count} pairs");
    }
}

#[test]
fn duplicates_fail_stay_replace_or_add() {
    let db = in_memory();
    let row = |amount: i64| [[7.into(), "x".into(), amount.into()]];
    let columns = ["a", "b", "amount"];
    let key = &["a", "b"];
    let amount = || int(&db, "SELECT amount FROM pair WHERE a = 7 AND b = 'x'");
    write(&db, |tx| tx.insert("pair", columns, &row(5), OnDuplicate::Fail));
    let again = db.write("test", Lane::Front, "tester", |tx| tx.insert("pair", columns, &row(6), OnDuplicate::Fail));
    assert_eq!((again.unwrap_err().code(), amount()), ("internal", 5));
    write(&db, |tx| tx.insert("pair", columns, &row(6), OnDuplicate::Ignore));
    assert_eq!(amount(), 5);
    write(&db, |tx| tx.insert("pair", columns, &row(8), OnDuplicate::Replace { key }));
    assert_eq!(amount(), 8);
    write(&db, |tx| tx.insert("pair", columns, &row(-3), OnDuplicate::Add { key }));
    assert_eq!(amount(), 5);
    write(&db, |tx| tx.insert("pair", columns, &[[8.into(), "y".into(), 1.into()]], OnDuplicate::Add { key }));
    assert_eq!(int(&db, "SELECT amount FROM pair WHERE a = 8"), 1, "a new key begins with the value");
}

#[test]
#[should_panic(expected = "names a key twice")]
fn a_key_that_is_named_twice_in_one_call_is_a_defect() {
    let db = in_memory();
    let twice = [[7.into(), "x".into(), 10.into()], [7.into(), "x".into(), 20.into()]];
    let add = OnDuplicate::Add { key: &["a", "b"] };
    write(&db, |tx| tx.insert("pair", ["a", "b", "amount"], &twice, add));
}

#[test]
fn many_rows_are_updated_by_key_in_one_statement() {
    let db = in_memory();
    fill(&db, 600);
    for count in [1, 2, 512] {
        let rows: Vec<[Value<'_>; 3]> = (1..=count).map(|id| ["new".into(), (id + count).into(), id.into()]).collect();
        let used = statements(&db, || {
            let found = write(&db, |tx| tx.update_many("item", &["name", "amount"], &["id"], &rows));
            assert_eq!(found, rows.len());
        });
        assert_eq!(used, 1);
        assert_eq!(int(&db, &format!("SELECT amount FROM item WHERE id = {count}")), 2 * count);
    }
    let missing = [["new".into(), 1.into(), 9_999.into()]];
    assert_eq!(write(&db, |tx| tx.update_many("item", &["name", "amount"], &["id"], &missing)), 0);
    assert_eq!(int(&db, "SELECT CAST(COUNT(*) AS BIGINT) FROM item WHERE name = 'new'"), 512);
    let none: &[[Value<'_>; 1]] = &[];
    assert_eq!(statements(&db, || write(&db, |tx| tx.insert("item", ["id"], none, OnDuplicate::Fail))), 0);
}

#[test]
fn values_come_back_as_they_went_and_nulls_are_nulls() {
    let db = in_memory();
    let id = PartnerId::from_bytes([9; 16]);
    let rows = [
        [1.into(), "näme".into(), START.into(), (&id).into()],
        [2.into(), None::<&str>.into(), None::<i64>.into(), None::<&PartnerId>.into()],
        [3.into(), "".into(), i64::MIN.into(), [].as_slice().into()],
    ];
    write(&db, |tx| tx.insert("item", ["id", "name", "amount", "data"], &rows, OnDuplicate::Fail));
    let sql = "SELECT name, amount, data FROM item WHERE id = ?";
    db.read(|reader| {
        reader.query_one(sql, &[1.into()], |row| {
            assert_eq!((row.text(0)?, row.time(1)?, row.id(2)?), ("näme", START, id));
            assert_eq!(row.opt_id(2)?, Some(id));
            assert!(row.int(0).is_err() && row.text(1).is_err() && row.text(2).is_err() && row.bytes(0).is_err());
            Ok(())
        })?;
        reader.query_one(sql, &[2.into()], |row| {
            let nothing: Option<PartnerId> = row.opt_id(2)?;
            assert_eq!((row.opt_text(0)?, row.opt_time(1)?, nothing), (None, None, None));
            assert_eq!((row.opt_int(1)?, row.opt_bytes16(2)?), (None, None));
            assert!(row.text(0).is_err() && row.int(1).is_err() && row.bytes(2).is_err() && row.int(3).is_err());
            Ok(())
        })?;
        reader.query_one(sql, &[3.into()], |row| {
            assert_eq!((row.text(0)?, row.int(1)?, row.bytes(2)?), ("", i64::MIN, &[][..]));
            assert!(row.bytes16(2).is_err());
            Ok(())
        })
    })
    .unwrap();
    let by_null = "SELECT id FROM item WHERE name IS NULL AND amount IS NULL AND data IS NULL";
    assert_eq!(int(&db, by_null), 2, "a typed null is stored as null");
}

#[test]
fn a_fault_in_the_mapping_ends_the_query_and_the_statement_can_be_used_again() {
    let db = in_memory();
    fill(&db, 10);
    let sql = "SELECT id FROM item ORDER BY id";
    db.read(|reader| {
        let mut seen = 0;
        let failed = reader.query(sql, &[], |row| {
            seen += 1;
            if row.int(0)? == 3 { Err(Fault::internal("no")) } else { Ok(()) }
        });
        assert!(failed.is_err());
        assert_eq!((seen, reader.query(sql, &[], |row| row.int(0))?.len()), (3, 10));
        assert_eq!(reader.query_one(sql, &[], |row| row.int(0))?, Some(1));
        assert!(reader.query("SELECT nonsense FROM item", &[], |_| Ok(())).is_err());
        Ok(())
    })
    .unwrap();
}
