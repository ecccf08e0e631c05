//! The sweep over parked facts: tries them again whatever they wait for, so that a lost wake-up costs only time.

use kernel::Result;
use platform::{Tx, consumer, parking};

use crate::CONSUMER;
use crate::load::{Wanted, load};
use crate::model::conversion::Moment;
use crate::react::Settings;
use crate::store::store;

/// How many facts one sweep tries.
const LONGEST_SWEEP: i64 = 512;

/// Tries the next parked facts again, going round over all of them from call to call; answers how many wait no more.
pub fn sweep(tx: &mut Tx<'_>, settings: Settings) -> Result<usize> {
    let sql = "SELECT position FROM parked_sweep WHERE id = 1";
    let after = tx.query_one(sql, &[], |row| row.int(0))?.unwrap_or(0);
    let facts = parking::resume_any(tx, CONSUMER, after, LONGEST_SWEEP)?;
    let is_round = i64::try_from(facts.len()).is_ok_and(|count| count < LONGEST_SWEEP);
    let next = facts.last().filter(|_| !is_round).map_or(0, |fact| fact.position);
    if next != after {
        tx.execute("UPDATE parked_sweep SET position = ? WHERE id = 1", &[next.into()])?;
    }
    if facts.is_empty() {
        return Ok(0);
    }
    let mut wanted = Wanted::default();
    facts.iter().try_for_each(|fact| wanted.add(fact))?;
    let mut book = load(tx, &wanted, settings.unknown_reference)?;
    // What the consumer has not handled yet is not seen: its own event asks for a decision.
    let moment = Moment { position: consumer::position(tx, CONSUMER)?, time: tx.now(), known_at: tx.now() };
    facts.iter().try_for_each(|fact| book.try_again(fact, moment))?;
    let waiting = store(tx, &book)?;
    Ok(facts.len() - waiting.min(facts.len()))
}
