//! The reaction "commissions": what conversions earn, what payouts do to it, and what waits for a partner. A slice is cut
//! into runs of events of one kind, so that each kind is handled set-based and in order.

use events::conversions::{Attributed, Refunded, Rejected, Unattributed};
use events::{partners, payments};
use kernel::{Event, EventRecord, Result};
use platform::{Consumer, Tx};

use crate::book::{Book, Fact};
use crate::{react_to_partners, react_to_payouts};

/// The consumer's name.
pub(crate) const NAME: &str = "commissions";

/// What decides about a conversion.
pub(crate) const DECISIONS: &[&str] = &[Attributed::TYPE, Unattributed::TYPE, Rejected::TYPE];
/// What changes what a conversion earns.
pub(crate) const FACTS: &[&str] = &[Attributed::TYPE, Unattributed::TYPE, Rejected::TYPE, Refunded::TYPE];
const PARTNERS: &[&str] = &[partners::Reinstated::TYPE, partners::Terminated::TYPE];
const PAYOUTS: &[&str] = &[
    payments::PayoutCreated::TYPE,
    payments::ItemSettled::TYPE,
    payments::ItemFailed::TYPE,
    payments::ItemReturned::TYPE,
    payments::ItemCancelled::TYPE,
];

/// The reaction of this context.
pub fn consumer() -> Consumer {
    Consumer { name: NAME, types: [FACTS, PARTNERS, PAYOUTS].concat(), react: Box::new(react) }
}

#[derive(PartialEq)]
enum Sort {
    Fact,
    Partner,
    Payout,
}

fn sort(record: &EventRecord) -> Sort {
    let is = |types: &[&str]| types.contains(&record.event_type.as_str());
    if is(FACTS) {
        Sort::Fact
    } else if is(PARTNERS) {
        Sort::Partner
    } else {
        Sort::Payout
    }
}

fn react(tx: &mut Tx<'_>, slice: &[EventRecord]) -> Result<()> {
    for run in slice.chunk_by(|a, b| sort(a) == sort(b)) {
        match run.first().map(sort) {
            Some(Sort::Fact) => facts(tx, run)?,
            Some(Sort::Partner) => react_to_partners::react(tx, run)?,
            Some(Sort::Payout) => react_to_payouts::react(tx, run)?,
            None => {}
        }
    }
    Ok(())
}

fn facts(tx: &mut Tx<'_>, run: &[EventRecord]) -> Result<()> {
    let facts: Vec<(&EventRecord, Fact)> =
        run.iter().map(|record| Ok((record, decode(record)?))).collect::<Result<_>>()?;
    let mut book = Book::load(tx, &facts)?;
    for (record, fact) in &facts {
        book.decide(record, fact, || tx.new_id())?;
    }
    book.store(tx)
}

fn decode(record: &EventRecord) -> Result<Fact> {
    Ok(match record.event_type.as_str() {
        Attributed::TYPE => Fact::Attributed(record.decode()?),
        Unattributed::TYPE => Fact::Unattributed(record.decode()?),
        Rejected::TYPE => Fact::Rejected(record.decode()?),
        _ => Fact::Refunded(record.decode()?),
    })
}
