//! The inbox: which messages of a broker a consumer has handled. A broker delivers at least once; a message that is claimed
//! in the transaction of its effect has that effect once. It must not know what the messages mean.

use std::collections::BTreeSet;

use kernel::{Result, Timestamp};

use crate::sql::{OnDuplicate, Value};
use crate::tx::Tx;

/// Claims are kept this long: longer than a broker keeps a message that nobody acknowledges, or it would have its effect
/// again.
pub const KEPT_DAYS: u32 = 30;

/// Claims messages for `consumer` by ids that the sender chose (an event's id), and answers which of them are fresh, in
/// the order of `ids`; the caller has the effects of those in this transaction. An id that is named twice is fresh once.
/// Two processes that claim the same message at the same time: one of them fails, and finds it claimed when it comes
/// again.
pub fn claim(tx: &mut Tx<'_>, consumer: &str, ids: &[&str]) -> Result<Vec<bool>> {
    let answers = fresh(tx, consumer, ids)?;
    let now = tx.now();
    // Sorted, so that two transactions never wait for each other's rows.
    let fresh: BTreeSet<&str> = ids.iter().zip(&answers).filter_map(|(&id, &fresh)| fresh.then_some(id)).collect();
    let rows: Vec<[Value<'_>; 3]> = fresh.iter().map(|&id| [consumer.into(), id.into(), now.into()]).collect();
    tx.insert("inbox", ["consumer", "message_id", "claimed_at"], &rows, OnDuplicate::Fail)?;
    Ok(answers)
}

/// Which messages nobody has claimed for `consumer`, in the order of `ids`; an id that is named twice is fresh once. For
/// those who claim only what was not refused, later in the same transaction.
pub fn fresh(tx: &Tx<'_>, consumer: &str, ids: &[&str]) -> Result<Vec<bool>> {
    let asked: BTreeSet<&str> = ids.iter().copied().collect();
    let keys: Vec<[Value<'_>; 1]> = asked.iter().map(|&id| [id.into()]).collect();
    let sql = "SELECT message_id FROM inbox WHERE consumer = ? AND message_id IN (?*)";
    let claimed = tx.query_in(sql, &[consumer.into()], &keys, |row| Ok(row.text(0)?.to_owned()))?;
    let claimed: BTreeSet<&str> = claimed.iter().map(String::as_str).collect();
    let mut fresh: BTreeSet<&str> = asked.difference(&claimed).copied().collect();
    Ok(ids.iter().map(|id| fresh.remove(id)).collect())
}

/// Forgets claims from before `limit`; answers how many.
pub fn forget_before(tx: &mut Tx<'_>, limit: Timestamp) -> Result<usize> {
    tx.execute("DELETE FROM inbox WHERE claimed_at < ?", &[limit.into()])
}

#[cfg(test)]
mod tests {
    use kernel::Fault;

    use super::*;
    use crate::testing::{START, clock, in_memory, options};
    use crate::{Db, Lane};

    fn claims(db: &Db, consumer: &str, ids: &[&str]) -> Vec<bool> {
        db.write("test", Lane::Back, "system", |tx| claim(tx, consumer, ids)).unwrap()
    }

    #[test]
    fn each_id_is_fresh_once_for_each_consumer() {
        let db = in_memory();
        assert_eq!(claims(&db, "a", &["2", "1", "2"]), [true, true, false]);
        assert_eq!(claims(&db, "a", &["3", "1", "", "2"]), [true, false, true, false]);
        assert_eq!(claims(&db, "b", &["1"]), [true]);
        assert_eq!(claims(&db, "b", &[]), [false; 0]);
    }

    #[test]
    fn a_claim_goes_with_its_effect() {
        let db = in_memory();
        let failed = db.write("test", Lane::Back, "system", |tx| {
            assert_eq!(claim(tx, "a", &["1"])?, [true]);
            Err::<(), _>(Fault::internal("the effect failed"))
        });
        assert!(failed.is_err());
        assert_eq!(claims(&db, "a", &["1"]), [true]);
    }

    #[test]
    fn two_and_five_hundred_ids_cost_the_same_statements() {
        let cost = |count: usize| {
            let db = in_memory();
            let ids: Vec<String> = (0..count).map(|n| format!("evt_{n:04}")).collect();
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let before = db.stats().statements.load(std::sync::atomic::Ordering::Relaxed);
            assert!(claims(&db, "a", &ids).iter().all(|&fresh| fresh));
            assert!(claims(&db, "a", &ids).iter().all(|&fresh| !fresh));
            db.stats().statements.load(std::sync::atomic::Ordering::Relaxed) - before
        };
        assert_eq!(cost(2), cost(500));
    }

    #[test]
    fn old_claims_are_forgotten() {
        let clock = clock();
        let db = Db::in_memory(options(&clock, None)).unwrap();
        claims(&db, "a", &["1"]);
        clock.set(START.plus_days(1));
        claims(&db, "a", &["2"]);
        let forget = |limit| db.write("test", Lane::Back, "system", |tx| forget_before(tx, limit)).unwrap();
        assert_eq!((forget(START), forget(START.plus_days(1)), forget(START.plus_days(1))), (0, 1, 0));
        assert_eq!(claims(&db, "a", &["1", "2"]), [true, false]);
    }
}
