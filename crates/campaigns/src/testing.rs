//! What the tests of this crate share: a database in memory whose clock they move.

use std::sync::Arc;

use events::campaigns::{
    AttributionPolicy, CampaignProfile, CampaignReference, CodeOwner, Component, Conditions, Enrollments, Terms,
};
use events::partners::{PartnerProfile, PartnerState};
use kernel::{
    Amount, BasisPoints, CampaignId, Currency, EnrollmentId, EventRecord, IdSource, Key, Label, ManualClock, Money,
    NewEvent, PartnerId, Reference, Result, Timestamp,
};
use platform::{Db, DbOptions, Lane, Migration, Reader, Runner, Step, Tx, event_log, published};

use crate::{
    CampaignAction, CampaignView, CloseEnrollment, Create, Enroll, EnrollmentView, PublishTerms, Update, change, check,
    consumer,
};

/// The table of partners' profiles, which the tests fill by hand.
const PARTNERS: &[Migration] =
    &[Migration::new(10, "partners", include_str!("../../partners/migrations/0010_partners.sql"))];

/// A partner that is there.
pub(crate) const PARTNER: PartnerId = PartnerId::from_bytes([1; 16]);
/// Another one.
pub(crate) const OTHER_PARTNER: PartnerId = PartnerId::from_bytes([2; 16]);
/// A partner that is not there.
pub(crate) const NOBODY: PartnerId = PartnerId::from_bytes([9; 16]);

pub(crate) struct World {
    pub(crate) db: Db,
    clock: Arc<ManualClock>,
}

/// Day 0 of every test is 2026-01-31T12:00:00Z.
pub(crate) fn day(number: u32) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000).plus_days(number)
}

/// A world on day 10 with two partners.
pub(crate) fn world() -> World {
    let clock = Arc::new(ManualClock::at(day(10)));
    let options = DbOptions {
        clock: Arc::clone(&clock) as _,
        ids: IdSource::from_number(1),
        hook: None,
        migrations: vec![platform::MIGRATIONS, PARTNERS, crate::MIGRATIONS],
    };
    let world = World { db: Db::for_test(options).unwrap(), clock };
    let profile = PartnerProfile { state: PartnerState::Applied, inactive: Vec::new() };
    let partners = [(&PARTNER.as_bytes()[..], &profile), (&OTHER_PARTNER.as_bytes()[..], &profile)];
    world.write(|tx| published::put(tx, &partners)).unwrap();
    world
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

    pub(crate) fn create(&self, create: &Create) -> Result<CampaignView> {
        self.write(|tx| create.run(tx))
    }

    pub(crate) fn draft(&self) -> CampaignId {
        self.create(&creation()).unwrap().id
    }

    pub(crate) fn active(&self) -> CampaignId {
        let id = self.draft();
        self.change(id, CampaignAction::Activate).unwrap();
        id
    }

    pub(crate) fn change(&self, id: CampaignId, action: CampaignAction) -> Result<CampaignView> {
        self.write(|tx| change(tx, id, action, None))
    }

    /// An update as the API reads it.
    pub(crate) fn update(&self, id: CampaignId, json: &str) -> Result<CampaignView> {
        let update: Update = serde_json::from_str(json).unwrap();
        self.write(|tx| update.run(tx, id))
    }

    pub(crate) fn publish_terms(&self, id: CampaignId, valid_from: Timestamp, terms: Terms) -> Result<CampaignView> {
        self.write(|tx| PublishTerms { valid_from, terms: terms.clone() }.run(tx, id))
    }

    pub(crate) fn enroll(&self, id: CampaignId, enroll: &Enroll) -> Result<EnrollmentView> {
        self.write(|tx| enroll.run(tx, id))
    }

    pub(crate) fn close(&self, id: CampaignId, of: EnrollmentId, to: Option<Timestamp>) -> Result<EnrollmentView> {
        self.write(|tx| CloseEnrollment { to }.run(tx, id, of))
    }

    pub(crate) fn profile(&self, id: CampaignId) -> Option<CampaignProfile> {
        self.read(|reader| published::get_one(reader, id.as_bytes()))
    }

    pub(crate) fn enrollments(&self, id: CampaignId, partner_id: PartnerId) -> Enrollments {
        let key = Enrollments::key(id, partner_id);
        self.read(|reader| published::get_one(reader, &key)).unwrap_or_default()
    }

    pub(crate) fn code(&self, code: &str) -> Option<CodeOwner> {
        self.read(|reader| published::get_one(reader, code.as_bytes()))
    }

    pub(crate) fn named(&self, reference: &str) -> Option<CampaignId> {
        self.read(|reader| published::get_one(reader, reference.as_bytes())).map(|r: CampaignReference| r.campaign_id)
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

    /// Lets the consumer handle everything that is there, in slices of at most `slice`.
    pub(crate) fn react(&self, slice: usize) {
        let mut runner = Runner::new(consumer());
        runner.slice = slice;
        while runner.step(&self.db).unwrap() != Step::Idle {}
    }

    /// The differences that `verify` would show.
    pub(crate) fn differences(&self) -> Vec<String> {
        self.read(check).into_iter().flat_map(|check| check.differences).collect()
    }
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text).unwrap()
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn reference(system: &str, id: &str) -> Reference {
    Reference { system: key(system), id: key(id) }
}

pub(crate) fn amount(amount_minor: i64, currency: &str) -> Option<Amount> {
    Some(Amount::new(Money::new(amount_minor, currency.parse().unwrap())).unwrap())
}

/// So many hundredths of a percent.
pub(crate) fn percent(basis_points: u32) -> Terms {
    let basis_points = BasisPoints::new(basis_points).unwrap();
    let components = vec![Component::Percent { basis_points, conditions: Conditions::default() }];
    Terms { components, cap_minor: None, hold_days: 30, auto_approve_up_to_minor: None }
}

/// A campaign in USD from day 0 on at 8 %, without anything optional.
pub(crate) fn creation() -> Create {
    Create {
        name: label("Summer"),
        kind: None,
        currency: Currency::USD,
        starts_at: day(0),
        ends_at: None,
        budget: None,
        attribution: AttributionPolicy::default(),
        terms: percent(800),
        owner_partner_id: None,
        tags: Vec::new(),
        external_refs: Vec::new(),
        metadata: None,
    }
}

pub(crate) fn enrollment(partner_id: PartnerId) -> Enroll {
    Enroll { partner_id, code: None, from: None, to: None }
}
