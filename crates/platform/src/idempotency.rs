//! Idempotency keys: the reply to a command is stored in the command's own transaction, so that a repeat is answered
//! and has no second effect. It must not know what the commands are.

use kernel::{Fault, Kind, Problem, Result, Timestamp};

use crate::sql::{OnDuplicate, Reader};
use crate::tx::Tx;

/// The key that a client sent with a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// What the client sent.
    pub key: String,
    /// A digest over method, path and body.
    pub request_digest: [u8; 16],
}

/// The reply that was given first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
}

/// Keys are kept this long.
pub const KEPT_DAYS: u32 = 30;

const REUSED: Problem = Problem::new(
    Kind::Unprocessable,
    "idempotency_key_reused",
    "The Idempotency-Key was used for another request.",
    "Use a fresh key for a different request; repeat the same body to get the stored reply.",
);

/// This module's entries of the catalogue of problems.
pub(crate) const PROBLEMS: &[&Problem] = &[&REUSED];

/// The stored reply to this actor's key. Fault: `idempotency_key_reused` when the request is another one.
pub fn find(reader: &Reader<'_>, actor: &str, key: &IdempotencyKey) -> Result<Option<Reply>> {
    let sql = "SELECT request_digest, status, body FROM idempotency_key WHERE actor = ? AND idempotency_key = ?";
    let found = reader.query_one(sql, &[actor.into(), (&key.key).into()], |row| {
        let status = u16::try_from(row.int(1)?).map_err(Fault::internal)?;
        Ok((row.bytes16(0)?, Reply { status, body: row.text(2)?.to_owned() }))
    })?;
    match found {
        None => Ok(None),
        Some((digest, reply)) if digest == key.request_digest => Ok(Some(reply)),
        Some(_) => Err(Fault::new(&REUSED, "this Idempotency-Key belongs to another request")),
    }
}

/// Stores the reply to a command, in its transaction.
pub fn store(tx: &mut Tx<'_>, key: &IdempotencyKey, reply: &Reply) -> Result<()> {
    let actor = tx.actor().to_owned();
    let row = [
        (&actor).into(),
        (&key.key).into(),
        (&key.request_digest).into(),
        i64::from(reply.status).into(),
        (&reply.body).into(),
        tx.now().into(),
    ];
    let columns = ["actor", "idempotency_key", "request_digest", "status", "body", "created_at"];
    tx.insert("idempotency_key", columns, &[row], OnDuplicate::Fail)
}

/// Forgets keys from before `limit`; answers how many.
pub fn forget_before(tx: &mut Tx<'_>, limit: Timestamp) -> Result<usize> {
    tx.execute("DELETE FROM idempotency_key WHERE created_at < ?", &[limit.into()])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, clock, options};
    use crate::{Db, Lane};

    #[test]
    fn a_reply_is_found_by_actor_key_and_request_until_it_is_forgotten() {
        let clock = clock();
        let db = Db::in_memory(options(&clock, None)).unwrap();
        let key = |digest: u8| IdempotencyKey { key: "k".to_owned(), request_digest: [digest; 16] };
        let reply = Reply { status: 201, body: "{}".to_owned() };
        db.write("test", Lane::Front, "a", |tx| store(tx, &key(1), &reply)).unwrap();
        let found = |actor: &str, digest| db.read(|reader| find(reader, actor, &key(digest)));
        assert_eq!(found("a", 1).unwrap(), Some(reply.clone()));
        assert_eq!(found("b", 1).unwrap(), None, "keys of another actor are others");
        let reused = found("a", 2).unwrap_err();
        assert_eq!((reused.code(), reused.kind()), ("idempotency_key_reused", Kind::Unprocessable));
        let failed = db.write("test", Lane::Front, "c", |tx| {
            store(tx, &key(1), &reply)?;
            Err::<(), _>(Fault::internal("the command failed"))
        });
        assert!(failed.is_err());
        assert_eq!(found("c", 1).unwrap(), None, "no effect, no reply");
        clock.set(START.plus_days(1));
        db.write("test", Lane::Front, "d", |tx| store(tx, &key(1), &reply)).unwrap();
        let forget = |limit| db.write("test", Lane::Back, "system", |tx| forget_before(tx, limit)).unwrap();
        assert_eq!((forget(START), forget(START.plus_days(1)), forget(START.plus_days(1))), (0, 1, 0));
        assert_eq!((found("a", 1).unwrap(), found("d", 1).unwrap()), (None, Some(reply)));
    }
}
