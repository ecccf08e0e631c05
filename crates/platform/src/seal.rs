//! The seal: a hash chain over the event store, one row per block. Whoever changes, removes or reorders a sealed event
//! breaks the chain from there on. Entries of the ledger are covered, because their digests are in events.

use kernel::{Result, Timestamp};
use sha2::{Digest, Sha256};

use crate::event_log;
use crate::sql::{OnDuplicate, Reader};
use crate::{Db, Lane};

/// Events per block at most.
const BLOCK: usize = 4_096;
/// All columns of an event, in the order in which they are hashed.
const COLUMNS: &str =
    "position, id, aggregatetype, aggregateid, type, payload, occurred_at, shard, actor, causationid, correlationid";
const COLUMN_COUNT: usize = 11;

/// Where the chain of blocks ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// The last position that it covers.
    pub last_position: i64,
    /// SHA-256 over the previous hash and the block's events.
    pub hash: Vec<u8>,
    /// When.
    pub sealed_at: Timestamp,
}

/// A stretch of the log: the hash over the hash before it and all columns of its events, and where it ends.
struct Block {
    hash: Vec<u8>,
    events: usize,
    last_position: i64,
    /// The first position that is not there, if any.
    missing: Option<i64>,
}

/// Hashes the events at `(after, up_to]`, at most `limit`, row by row: a block is never in memory as a whole.
fn hash_block(reader: &Reader<'_>, previous: &[u8], after: i64, up_to: i64, limit: usize) -> Result<Block> {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    let mut block = Block { hash: Vec::new(), events: 0, last_position: after, missing: None };
    let sql =
        format!("SELECT {COLUMNS} FROM outbox_event WHERE position > ? AND position <= ? ORDER BY position LIMIT ?");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    reader.query(&sql, &[after.into(), up_to.into(), limit.into()], |row| {
        let position = row.int(0)?;
        if position != block.last_position + 1 {
            block.missing.get_or_insert(block.last_position + 1);
        }
        block.last_position = position;
        block.events += 1;
        (0..COLUMN_COUNT).try_for_each(|column| row.canonical(column, |bytes| hasher.update(bytes)))
    })?;
    block.hash = hasher.finalize().to_vec();
    Ok(block)
}

/// The last block, if there is one.
pub fn last(reader: &Reader<'_>) -> Result<Option<Seal>> {
    let sql = "SELECT last_position, hash, sealed_at FROM seal ORDER BY last_position DESC LIMIT 1";
    reader.query_one(sql, &[], |row| {
        Ok(Seal { last_position: row.int(0)?, hash: row.bytes(1)?.to_vec(), sealed_at: row.time(2)? })
    })
}

/// Seals the next block; answers how many events it covers, 0 when everything is sealed. Events never change, so the
/// block is hashed beside the writer, and only its row is written in a transaction.
pub fn step(db: &Db) -> Result<usize> {
    let (after, previous_hash, block) = db.read(|reader| {
        let (after, hash) = last(reader)?.map_or_else(|| (0, vec![0; 32]), |seal| (seal.last_position, seal.hash));
        let block = hash_block(reader, &hash, after, i64::MAX, BLOCK)?;
        Ok((after, hash, block))
    })?;
    if block.events == 0 {
        return Ok(0);
    }
    db.write("seal", Lane::Back, "system", |tx| {
        // Another process may have sealed meanwhile: its block stands.
        if last(tx)?.map_or(0, |seal| seal.last_position) != after {
            return Ok(0);
        }
        let hashes = [previous_hash.as_slice().into(), block.hash.as_slice().into()];
        let row = [block.last_position.into(), hashes[0], hashes[1], tx.now().into()];
        tx.insert("seal", ["last_position", "previous_hash", "hash", "sealed_at"], &[row], OnDuplicate::Fail)?;
        Ok(block.events)
    })
}

/// Checks gaps, the whole chain and the log's head; answers the first difference in words, and the last position up to
/// which all is well.
pub fn verify(reader: &Reader<'_>) -> Result<(Option<String>, i64)> {
    let sql = "SELECT last_position, previous_hash, hash FROM seal ORDER BY last_position";
    let blocks = reader.query(sql, &[], |row| Ok((row.int(0)?, row.bytes(1)?.to_vec(), row.bytes(2)?.to_vec())))?;
    let mut hash = vec![0; 32];
    let mut position = 0;
    let missing = |missing: i64| Some(format!("position {missing} is missing from the log"));
    for (last_position, previous_hash, expected) in blocks {
        let block = hash_block(reader, &hash, position, last_position, usize::MAX)?;
        let gap = block.missing.or_else(|| (block.last_position < last_position).then_some(block.last_position + 1));
        if let Some(gap) = gap {
            return Ok((missing(gap), position));
        }
        if previous_hash != hash || block.hash != expected {
            let first = position + 1;
            let words = format!("the events at positions {first} to {last_position} do not match their seal");
            return Ok((Some(words), position));
        }
        hash = expected;
        position = last_position;
    }
    let tail = hash_block(reader, &hash, position, i64::MAX, usize::MAX)?;
    if let Some(gap) = tail.missing {
        return Ok((missing(gap), position));
    }
    let head = event_log::head(reader)?;
    if head != tail.last_position {
        let words = format!("the log's head is {head}, but its last event is at position {}", tail.last_position);
        return Ok((Some(words), position));
    }
    Ok((None, position))
}

#[cfg(test)]
mod tests;
