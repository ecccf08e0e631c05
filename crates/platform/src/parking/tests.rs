use super::*;
use crate::testing::{START, clock, event, int, options, publish};
use crate::{Db, Lane};

fn write<T>(db: &Db, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> T {
    db.write("test", Lane::Back, "tester", work).unwrap()
}

fn parking(position: i64, wait_key: &str) -> Parking {
    Parking { position, wait_key: wait_key.to_owned(), reason: "partner_unknown" }
}

fn resumed(tx: &mut Tx<'_>, keys: &[&str]) -> Result<Vec<(String, i64)>> {
    let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
    Ok(resume(tx, "consumer", &keys)?.into_iter().map(|(key, event)| (key, event.position)).collect())
}

fn pairs(list: &[(&str, i64)]) -> Vec<(String, i64)> {
    list.iter().map(|&(key, position)| (key.to_owned(), position)).collect()
}

#[test]
fn parked_resumed_parked_again_and_swept() {
    let clock = clock();
    let db = Db::in_memory(options(&clock, None)).unwrap();
    publish(&db, &[event("a"), event("b"), event("c"), event("d")]);
    write(&db, |tx| park(tx, "consumer", &[parking(3, "p:1"), parking(1, "p:1"), parking(2, "p:2")]));
    write(&db, |tx| park(tx, "other", &[parking(4, "p:1")]));
    assert_eq!(db.read(count).unwrap(), (4, 0));

    clock.set(START.plus_days(1));
    write(&db, |tx| {
        assert_eq!(resumed(tx, &["p:9"])?, []);
        assert_eq!(resumed(tx, &[])?, []);
        assert_eq!(resumed(tx, &["p:1"])?, pairs(&[("p:1", 1), ("p:1", 3)]), "in order, and only its own");
        assert_eq!(resumed(tx, &["p:1"])?, [], "only once");
        park(tx, "consumer", &[parking(3, "p:2"), parking(4, "p:2")])?;
        assert_eq!(
            resumed(tx, &["p:1", "p:2"])?,
            pairs(&[("p:2", 2), ("p:2", 3), ("p:2", 4)]),
            "parked in this transaction"
        );
        park(tx, "consumer", &[parking(3, "p:3"), parking(2, "p:2")])
    });
    assert_eq!(db.read(count).unwrap(), (3, 2));
    let waiting = db.read(|reader| waiting(reader, "consumer", &[1, 2, 3, 4])).unwrap();
    let shown: Vec<_> =
        waiting.iter().map(|parked| (parked.position, parked.wait_key.as_str(), parked.since)).collect();
    assert_eq!(shown, [(2, "p:2", START), (3, "p:3", START)], "it waits since it first had to");
    assert_eq!(db.read(|reader| list(reader, 2, 10)).unwrap().len(), 2);

    write(&db, |tx| {
        let swept: Vec<i64> = resume_any(tx, "consumer", 0, 1)?.iter().map(|event| event.position).collect();
        assert_eq!(swept, [2]);
        let swept: Vec<i64> = resume_any(tx, "consumer", 2, 10)?.iter().map(|event| event.position).collect();
        assert_eq!(swept, [3]);
        Ok(())
    });
    assert_eq!(db.read(count).unwrap(), (1, 4));
}

#[test]
fn a_rolled_back_resume_resumes_nothing() {
    let db = Db::in_memory(options(&clock(), None)).unwrap();
    publish(&db, &[event("a")]);
    write(&db, |tx| park(tx, "consumer", &[parking(1, "p:1")]));
    let failed = db.write("test", Lane::Back, "tester", |tx| {
        resumed(tx, &["p:1"])?;
        Err::<(), _>(kernel::Fault::internal("no"))
    });
    assert!(failed.is_err());
    assert_eq!(write(&db, |tx| resumed(tx, &["p:1"])), pairs(&[("p:1", 1)]));
}

/// A slice resumes what waits for its keys; it must not walk over everything that ever waited.
#[test]
fn resuming_goes_by_the_index() {
    let db = Db::in_memory(options(&clock(), None)).unwrap();
    let events: Vec<_> = (0..20_000).map(|n| event(&format!("s{n}"))).collect();
    publish(&db, &events);
    let all: Vec<Parking> = (1..=20_000).map(|position| parking(position, "p:old")).collect();
    write(&db, |tx| park(tx, "consumer", &all));
    assert_eq!(write(&db, |tx| resumed(tx, &["p:old"])).len(), 20_000);
    let plan = "EXPLAIN QUERY PLAN SELECT position, wait_key FROM parked \
        WHERE consumer = ? AND resumed_at IS NULL AND wait_key IN (?, ?) ORDER BY wait_key, position";
    let plan = db
        .read(|reader| reader.query(plan, &["a".into(), "b".into(), "c".into()], |row| Ok(row.text(3)?.to_owned())))
        .unwrap();
    assert!(plan[0].contains("parked_wait_key (consumer=? AND resumed_at=? AND wait_key=?)"), "{plan:?}");
    assert_eq!(int(&db, "SELECT CAST(COUNT(*) AS BIGINT) FROM parked WHERE resumed_at IS NOT NULL"), 20_000);
}
