//! The sweep over parked facts: tries them again whatever they wait for, so that a lost wake-up costs only time.

use kernel::Result;
use platform::{Tx, consumer, event_log, parking};

use crate::CONSUMER;
use crate::load::{Wanted, load};
use crate::model::conversion::Moment;
use crate::react::{Settings, TYPES};
use crate::store::store;

/// How many facts one sweep tries.
const LONGEST_SWEEP: i64 = 512;

/// Tries the next parked facts again, going round over all of them from call to call; answers how many wait no more.
/// Nothing while the consumer has events before it: what they wake up must see the moment at which it became known.
pub fn sweep(tx: &mut Tx<'_>, settings: Settings) -> Result<usize> {
    let handled = consumer::position(tx, CONSUMER)?;
    if !event_log::range(tx, handled, i64::MAX, TYPES, 1)?.is_empty() {
        return Ok(0);
    }
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
    facts.iter().try_for_each(|fact| wanted.add_parked(fact))?;
    let mut book = load(tx, &wanted, settings.unknown_reference)?;
    let moment = Moment { position: handled, time: tx.now(), known_at: tx.now() };
    book.try_again(&facts, moment)?;
    let waiting = store(tx, &book)?;
    Ok(facts.len() - waiting.min(facts.len()))
}
