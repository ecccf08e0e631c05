//! The reaction: a slice of events becomes a book, the book is folded, its changes are stored.

use events::campaigns::{self, EnrollmentOpened};
use events::conversions::{Recorded, RefundRecorded, TouchRecorded};
use events::partners;
use kernel::{Event, EventRecord, Result};
use platform::{Consumer, Tx, parking};

use crate::CONSUMER;
use crate::load::{Wanted, load};
use crate::model::book::UnknownReference;
use crate::store::store;

/// What an installation decides about its conversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// What happens to a fact that names an unknown partner or campaign.
    pub unknown_reference: UnknownReference,
}

impl Default for Settings {
    fn default() -> Self {
        Self { unknown_reference: UnknownReference::Park }
    }
}

/// The events that it reacts to.
pub(crate) const TYPES: &[&str] = &[
    TouchRecorded::TYPE,
    Recorded::TYPE,
    RefundRecorded::TYPE,
    partners::Applied::TYPE,
    partners::Activated::TYPE,
    partners::Rejected::TYPE,
    partners::Updated::TYPE,
    campaigns::Created::TYPE,
    campaigns::Activated::TYPE,
    campaigns::Cancelled::TYPE,
    campaigns::Updated::TYPE,
    EnrollmentOpened::TYPE,
];

/// The consumer that attributes conversions.
pub fn consumer(settings: Settings) -> Consumer {
    Consumer { name: CONSUMER, types: TYPES.to_vec(), react: Box::new(move |tx, events| react(tx, events, settings)) }
}

fn react(tx: &mut Tx<'_>, events: &[EventRecord], settings: Settings) -> Result<()> {
    let mut wanted = Wanted::default();
    events.iter().try_for_each(|event| wanted.add(event))?;
    let keys: Vec<String> = wanted.resuming.iter().cloned().collect();
    let resumed = parking::resume(tx, CONSUMER, &keys)?;
    resumed.iter().try_for_each(|(_, event)| wanted.add_parked(event))?;
    let mut book = load(tx, &wanted, settings.unknown_reference)?;
    for (key, event) in &resumed {
        book.add_parked(key.clone(), event)?;
    }
    let known_at = tx.now();
    events.iter().try_for_each(|event| book.handle(event, known_at))?;
    store(tx, &book)?;
    Ok(())
}
