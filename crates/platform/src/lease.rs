//! Leases: which process does a work that one at a time does. A lease only saves double work and decides who goes on when
//! another dies; that effects happen once is decided by cursors and keys. Its token fences off whoever lost it without
//! noticing: the token is asked for in the transaction of the effect. It must not know what the works are.

use kernel::{Duration, Fault, Kind, Problem, Result, Timestamp};

use crate::sql::{OnDuplicate, Reader, Value};
use crate::tx::Tx;

/// A lease that is not renewed ends after this time. Holders renew every second, so another process goes on within five.
pub const TERM: Duration = Duration::from_secs(3);

const LOST: Problem = Problem::new(
    Kind::Unavailable,
    "lease_lost",
    "Another process has taken over this work.",
    "Nothing is to be done: the other process goes on, and this one asks again.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&LOST];

/// A lease as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// The work.
    pub name: String,
    /// The process that does it, as it calls itself.
    pub holder: String,
    /// Grows with every change of hands.
    pub token: i64,
    /// When it ends unless it is renewed.
    pub expires_at: Timestamp,
}

/// The right to do a work, as long as nobody else has taken it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    /// The work.
    pub name: String,
    token: i64,
}

/// Renews what `holder` has of the works `names`, and takes what is free; answers what it has now.
pub fn take(tx: &mut Tx<'_>, holder: &str, names: &[&str]) -> Result<Vec<Fence>> {
    let known = list(tx)?;
    let now = tx.now();
    let token = |name: &&str| match known.iter().find(|lease| lease.name == **name) {
        None => Some(1),
        Some(lease) if lease.holder == holder => Some(lease.token),
        Some(lease) => (lease.expires_at <= now).then_some(lease.token + 1),
    };
    let mine: Vec<(&str, i64)> = names.iter().filter_map(|name| Some((*name, token(name)?))).collect();
    let expires_at = now.plus(TERM);
    let rows: Vec<[Value<'_>; 4]> =
        mine.iter().map(|&(name, token)| [name.into(), holder.into(), token.into(), expires_at.into()]).collect();
    tx.insert("lease", ["name", "holder", "token", "expires_at"], &rows, OnDuplicate::Replace { key: &["name"] })?;
    Ok(mine.into_iter().map(|(name, token)| Fence { name: name.to_owned(), token }).collect())
}

/// Ends everything that `holder` has, so that others go on at once.
pub fn release(tx: &mut Tx<'_>, holder: &str) -> Result<()> {
    let now = tx.now();
    tx.execute("UPDATE lease SET expires_at = ? WHERE holder = ?", &[now.into(), holder.into()]).map(|_| ())
}

/// Refuses when another process has taken the work over. Fault: `lease_lost`.
pub fn require(tx: &Tx<'_>, fence: &Fence) -> Result<()> {
    let sql = "SELECT token FROM lease WHERE name = ?";
    match tx.query_one(sql, &[(&fence.name).into()], |row| row.int(0))? {
        Some(token) if token == fence.token => Ok(()),
        _ => Err(Fault::new(&LOST, format!("another process does {} now", fence.name))),
    }
}

/// All leases, by name.
pub fn list(reader: &Reader<'_>) -> Result<Vec<Lease>> {
    reader.query("SELECT name, holder, token, expires_at FROM lease ORDER BY name", &[], |row| {
        Ok(Lease {
            name: row.text(0)?.to_owned(),
            holder: row.text(1)?.to_owned(),
            token: row.int(2)?,
            expires_at: row.time(3)?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, clock, options};
    use crate::{Db, Lane};

    fn write<T>(db: &Db, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        db.write("test", Lane::Back, "system", work)
    }

    #[test]
    fn a_work_has_one_holder_who_keeps_it_until_it_is_released_or_not_renewed() {
        let clock = clock();
        let db = Db::for_test(options(&clock, None)).unwrap();
        let take = |holder: &str| {
            let mine = write(&db, |tx| take(tx, holder, &["one", "two"])).unwrap();
            mine.into_iter().map(|fence| (fence.name, fence.token)).collect::<Vec<_>>()
        };
        let both = |token| vec![("one".to_owned(), token), ("two".to_owned(), token)];
        assert_eq!((take("a"), take("b")), (both(1), vec![]));
        clock.set(START.plus(Duration::from_secs(2)));
        assert_eq!((take("a"), take("b")), (both(1), vec![]), "renewed");
        clock.set(START.plus(Duration::from_secs(5)));
        assert_eq!((take("b"), take("a")), (both(2), vec![]), "taken over after three seconds without a renewal");
        write(&db, |tx| release(tx, "b")).unwrap();
        assert_eq!((take("a"), take("b")), (both(3), vec![]));
        clock.set(START.plus(Duration::from_secs(60)));
        assert_eq!(take("a"), both(3), "nobody else wanted it");
    }

    #[test]
    fn whoever_lost_a_lease_is_refused() {
        let clock = clock();
        let db = Db::for_test(options(&clock, None)).unwrap();
        let old = write(&db, |tx| take(tx, "a", &["work"])).unwrap().remove(0);
        write(&db, |tx| require(tx, &old)).unwrap();
        clock.set(START.plus(Duration::from_secs(4)));
        write(&db, |tx| require(tx, &old)).unwrap();
        let new = write(&db, |tx| take(tx, "b", &["work"])).unwrap().remove(0);
        assert_eq!(write(&db, |tx| require(tx, &old)).unwrap_err().code(), "lease_lost");
        write(&db, |tx| require(tx, &new)).unwrap();
    }
}
