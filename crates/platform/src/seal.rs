//! The seal: a hash chain over the event store, one row per block. Whoever changes, removes or reorders a sealed event
//! breaks the chain from there on. Entries of the ledger are covered, because their digests are in events.

use kernel::{EventRecord, Fault, Result, Timestamp};
use sha2::{Digest, Sha256};

use crate::event_log;
use crate::sql::{OnDuplicate, Reader};
use crate::tx::Tx;

/// Events per block at most.
const BLOCK: usize = 4_096;

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

fn link(previous: &[u8], events: &[EventRecord]) -> Vec<u8> {
    let mut hasher = Sha256::new();
    hasher.update(previous);
    let mut part = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_be_bytes());
        hasher.update(bytes);
    };
    for event in events {
        part(&event.position.to_be_bytes());
        part(event.id.as_bytes());
        part(event.aggregate.as_bytes());
        part(event.subject.as_bytes());
        part(event.event_type.as_bytes());
        part(event.payload.as_bytes());
        part(&event.time.as_micros().to_be_bytes());
        part(event.actor.as_bytes());
        part(event.causation_id.as_ref().map_or(&[][..], |id| id.as_bytes()));
        part(event.correlation_id.as_deref().unwrap_or_default().as_bytes());
    }
    hasher.finalize().to_vec()
}

/// The last block, if there is one.
pub fn last(reader: &Reader<'_>) -> Result<Option<Seal>> {
    let sql = "SELECT last_position, hash, sealed_at FROM seal ORDER BY last_position DESC LIMIT 1";
    reader.query_one(sql, &[], |row| {
        Ok(Seal { last_position: row.int(0)?, hash: row.bytes(1)?.to_vec(), sealed_at: row.time(2)? })
    })
}

/// Seals the next block; answers how many events it covers, 0 when everything is sealed.
pub fn step(tx: &mut Tx<'_>) -> Result<usize> {
    let previous = last(tx)?;
    let after = previous.as_ref().map_or(0, |seal| seal.last_position);
    let events = event_log::range(tx, after, i64::MAX, &[], BLOCK)?;
    let Some(end) = events.last() else { return Ok(0) };
    let previous_hash = previous.map_or_else(|| vec![0; 32], |seal| seal.hash);
    let hash = link(&previous_hash, &events);
    let row = [end.position.into(), previous_hash.as_slice().into(), hash.as_slice().into(), tx.now().into()];
    tx.insert("seal", ["last_position", "previous_hash", "hash", "sealed_at"], &[row], OnDuplicate::Fail)?;
    Ok(events.len())
}

/// Checks gaps and the whole chain; answers the first difference in words, and the last sealed position.
pub fn verify(reader: &Reader<'_>) -> Result<(Option<String>, i64)> {
    let sql = "SELECT last_position, previous_hash, hash FROM seal ORDER BY last_position";
    let blocks = reader.query(sql, &[], |row| Ok((row.int(0)?, row.bytes(1)?.to_vec(), row.bytes(2)?.to_vec())))?;
    let mut hash = vec![0; 32];
    let mut position = 0;
    for (last_position, previous_hash, expected) in blocks {
        let events = event_log::range(reader, position, last_position, &[], usize::MAX)?;
        for event in &events {
            if event.position != position + 1 {
                return Ok((Some(format!("position {} is missing from the log", position + 1)), position));
            }
            position = event.position;
        }
        if position != last_position {
            return Ok((Some(format!("position {} is missing from the log", position + 1)), position));
        }
        if previous_hash != hash || link(&hash, &events) != expected {
            return Ok((
                Some(format!("the block that ends at position {last_position} does not match its seal")),
                position,
            ));
        }
        hash = expected;
    }
    let tail = event_log::range(reader, position, i64::MAX, &[], usize::MAX)?;
    let mut expected = position;
    for event in &tail {
        expected += 1;
        if event.position != expected {
            return Ok((Some(format!("position {expected} is missing from the log")), position));
        }
    }
    if event_log::head(reader)? != expected {
        return Err(Fault::internal(format!("the log's head is not {expected}")));
    }
    Ok((None, position))
}
