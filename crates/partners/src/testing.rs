//! What the tests of this crate share: a database in memory whose clock they move.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use events::partners::{PartnerKind, PartnerProfile, PartnerReference};
use kernel::{
    Email, EventRecord, IdSource, Key, Label, ManualClock, NewEvent, PartnerId, Reference, Result, Timestamp,
};
use platform::{Db, DbOptions, Lane, Reader, Runner, Step, Tx, event_log, published};

use crate::{Apply, PartnerAction, PartnerView, change, check, consumer};

pub(crate) struct World {
    pub(crate) db: Db,
    clock: Arc<ManualClock>,
}

/// Day 0 of every test is 2026-01-31T12:00:00Z.
pub(crate) fn day(number: u32) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000).plus_days(number)
}

pub(crate) fn world() -> World {
    let clock = Arc::new(ManualClock::at(day(0)));
    let options = DbOptions {
        clock: Arc::clone(&clock) as _,
        ids: IdSource::from_number(1),
        hook: None,
        migrations: vec![platform::MIGRATIONS, crate::MIGRATIONS],
    };
    World { db: Db::for_test(options).unwrap(), clock }
}

impl World {
    pub(crate) fn write<T>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.db.write("test", Lane::Front, "tester", work)
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> T {
        self.db.read(work).unwrap()
    }

    pub(crate) fn set_day(&self, number: u32) {
        self.clock.set(day(number));
    }

    pub(crate) fn apply(&self, apply: &Apply) -> Result<PartnerView> {
        self.write(|tx| apply.run(tx))
    }

    pub(crate) fn change(&self, id: PartnerId, action: PartnerAction) -> Result<PartnerView> {
        self.write(|tx| change(tx, id, action, None))
    }

    pub(crate) fn profile(&self, id: PartnerId) -> Option<PartnerProfile> {
        self.read(|reader| published::get_one(reader, id.as_bytes()))
    }

    pub(crate) fn named(&self, reference: &str) -> Option<PartnerId> {
        self.read(|reader| published::get_one(reader, reference.as_bytes())).map(|r: PartnerReference| r.partner_id)
    }

    pub(crate) fn events_after(&self, position: i64) -> Vec<EventRecord> {
        self.read(|reader| event_log::range(reader, position, i64::MAX, &[], 10_000))
    }

    pub(crate) fn types_after(&self, position: i64) -> Vec<String> {
        self.events_after(position).into_iter().map(|event| event.event_type).collect()
    }

    pub(crate) fn publish(&self, events: &[NewEvent]) {
        self.write(|tx| tx.publish(events)).unwrap();
    }

    /// Lets the consumer handle everything that is there, in slices of at most `slice`; answers its statements.
    pub(crate) fn react(&self, slice: usize) -> u64 {
        let before = self.db.stats().statements.load(Ordering::SeqCst);
        let mut runner = Runner::new(consumer());
        runner.slice = slice;
        while runner.step(&self.db).unwrap() != Step::Idle {}
        self.db.stats().statements.load(Ordering::SeqCst) - before
    }

    /// The differences that `verify` would show.
    pub(crate) fn differences(&self) -> Vec<String> {
        self.read(check).into_iter().flat_map(|check| check.differences).collect()
    }
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn email(text: &str) -> Email {
    Email::new(text).unwrap()
}

pub(crate) fn reference(system: &str, id: &str) -> Reference {
    Reference { system: Key::new(system).unwrap(), id: Key::new(id).unwrap() }
}

/// An application without anything optional.
pub(crate) fn application(name: &str) -> Apply {
    Apply {
        kind: PartnerKind::Affiliate,
        name: label(name),
        email: None,
        country: None,
        external_refs: Vec::new(),
        metadata: None,
    }
}
