//! What the tests of this crate share: a database in memory with the reference data of other contexts, a clock that is
//! moved, facts in short notation.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use events::campaigns::{
    self, AttributionModel, AttributionPolicy, CampaignProfile, CampaignReference, CampaignState, CodeOwner, Component,
    Conditions, EnrollmentOpened, EnrollmentSpan, Enrollments, Terms, TermsVersion,
};
use events::conversions::{ConversionKind, RefundKind};
use events::partners::{self, PartnerKind, PartnerProfile, PartnerReference, PartnerState};
use kernel::{
    Amount, BasisPoints, CampaignId, Currency, EnrollmentId, EventRecord, IdSource, Key, ManualClock, Money, NewEvent,
    PartnerId, Reason, Result, Timestamp,
};
use platform::{Db, DbOptions, Lane, Migration, Runner, Step, Tx, event_log, published};

use crate::views::{ConversionFilter, ConversionView, list};
use crate::{
    CustomerKeys, Fact, MIGRATIONS, Named, NewConversion, NewRefund, NewTouch, Prepared, Receipt, Settings, check,
    consumer, prepare, record, sweep,
};

/// The published tables are created by their owners.
const OTHERS: &[Migration] = &[
    Migration::new(10, "partners", include_str!("../../partners/migrations/0010_partners.sql")),
    Migration::new(20, "campaigns", include_str!("../../campaigns/migrations/0020_campaigns.sql")),
];

/// Day 0 of every test is 2026-01-31T12:00:00Z.
pub(crate) fn day(number: i64) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000 + number * 86_400_000_000)
}

pub(crate) const fn partner(number: u8) -> PartnerId {
    PartnerId::from_bytes([number; 16])
}

pub(crate) const fn campaign(number: u8) -> CampaignId {
    CampaignId::from_bytes([100 + number; 16])
}

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn usd(amount_minor: i64) -> Amount {
    Amount::new(Money::new(amount_minor, Currency::USD)).unwrap()
}

/// A touch of the customer with a partner in campaign 1.
pub(crate) fn touch(external_id: &str, customer: &str, by: u8, at: Timestamp) -> NewTouch {
    NewTouch {
        source: key("site"),
        external_id: key(external_id),
        campaign_id: Named::Id(campaign(1)),
        partner_id: Named::Id(partner(by)),
        customer_ref: key(customer),
        kind: key("click"),
        occurred_at: at,
        click_id: None,
    }
}

/// A sale to the customer in campaign 1, worth 100.00 USD.
pub(crate) fn sale(external_id: &str, customer: &str, at: Timestamp) -> NewConversion {
    NewConversion {
        source: key("shop"),
        external_id: key(external_id),
        kind: ConversionKind::Sale,
        campaign_id: Some(Named::Id(campaign(1))),
        partner_id: None,
        click_id: None,
        code: None,
        customer_ref: Some(key(customer)),
        occurred_at: at,
        amount: usd(10_000),
        lines: Vec::new(),
        metadata: None,
        terms: None,
    }
}

/// A refund of a sale of the shop.
pub(crate) fn refund(external_id: &str, of: &str, amount: Option<Amount>) -> NewRefund {
    NewRefund {
        source: key("shop"),
        external_id: key(external_id),
        conversion_source: None,
        conversion_external_id: key(of),
        occurred_at: day(0),
        amount,
        reason: Reason::new("damaged").unwrap(),
        kind: RefundKind::Refund,
    }
}

pub(crate) fn terms(hold_days: u32) -> Terms {
    let basis_points = BasisPoints::new(800).unwrap();
    Terms {
        components: vec![Component::Percent { basis_points, conditions: Conditions::default() }],
        cap_minor: None,
        hold_days,
        auto_approve_up_to_minor: None,
    }
}

pub(crate) fn profile(state: CampaignState) -> CampaignProfile {
    CampaignProfile {
        state,
        currency: Currency::USD,
        starts_at: day(-100),
        ends_at: None,
        pauses: Vec::new(),
        attribution: AttributionPolicy { model: AttributionModel::LastTouch, window_days: 30 },
        terms: vec![TermsVersion { version: 1, valid_from: day(-100), published_at: day(-100), terms: terms(30) }],
        budget_minor: None,
    }
}

pub(crate) struct World {
    pub(crate) db: Db,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) keys: CustomerKeys,
    pub(crate) settings: Settings,
    runner: Runner,
}

/// The active campaign 1 with the active partners 1, 2 and 3, enrolled with the codes ONE, TWO and THREE.
pub(crate) fn world() -> World {
    let world = empty_world();
    world.publish_campaign(campaign(1), &profile(CampaignState::Active));
    for (number, code) in [(1, "ONE"), (2, "TWO"), (3, "THREE")] {
        world.publish_partner(partner(number), PartnerState::Active);
        world.enroll(campaign(1), partner(number), Some(code), None, None);
    }
    world
}

pub(crate) fn empty_world() -> World {
    let clock = Arc::new(ManualClock::at(day(0)));
    let options = DbOptions {
        clock: Arc::clone(&clock) as Arc<dyn kernel::Clock>,
        ids: IdSource::from_number(1),
        hook: None,
        migrations: vec![platform::MIGRATIONS, OTHERS, MIGRATIONS],
    };
    let db = Db::for_test(options).unwrap();
    let keys = CustomerKeys::load_or_create(&db).unwrap();
    let settings = Settings::default();
    World { db, clock, keys, settings, runner: Runner::new(consumer(settings)) }
}

impl World {
    pub(crate) fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self.runner = Runner::new(consumer(settings));
        self
    }

    pub(crate) fn with_slices_of(mut self, slice: usize) -> Self {
        self.runner.slice = slice;
        self
    }

    pub(crate) fn write<T>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.db.write("test", Lane::Front, "tester", work)
    }

    pub(crate) fn publish_campaign(&self, id: CampaignId, profile: &CampaignProfile) {
        self.write(|tx| published::put(tx, &[(id.as_bytes().as_slice(), profile)])).unwrap();
    }

    pub(crate) fn publish_partner(&self, id: PartnerId, state: PartnerState) {
        let profile = PartnerProfile { state, inactive: Vec::new() };
        self.write(|tx| published::put(tx, &[(id.as_bytes().as_slice(), &profile)])).unwrap();
    }

    pub(crate) fn tell<E: kernel::Event>(&self, event: &E) {
        self.write(|tx| tx.publish(&[NewEvent::of(event)])).unwrap();
    }

    pub(crate) fn activate_partner(&self, id: PartnerId) {
        self.publish_partner(id, PartnerState::Active);
        self.tell(&partners::Activated { partner_id: id, reason: None });
    }

    pub(crate) fn activate_campaign(&self, id: CampaignId, profile: &CampaignProfile) {
        self.publish_campaign(id, profile);
        self.tell(&campaigns::Activated { campaign_id: id, reason: None });
    }

    /// A partner with an external reference appears, applied.
    pub(crate) fn apply_as(&self, id: PartnerId, reference: &str) {
        let (system, external) = reference.split_once(':').unwrap();
        self.publish_partner(id, PartnerState::Applied);
        let named = PartnerReference { partner_id: id };
        self.write(|tx| published::put(tx, &[(reference.as_bytes(), &named)])).unwrap();
        let external_refs = vec![kernel::Reference { system: key(system), id: key(external) }];
        self.tell(&partners::Applied {
            partner_id: id,
            kind: PartnerKind::Affiliate,
            provisional: false,
            external_refs,
        });
    }

    /// A campaign with an external reference appears, as a draft.
    pub(crate) fn create_campaign_as(&self, id: CampaignId, reference: &str) {
        let (system, external) = reference.split_once(':').unwrap();
        self.publish_campaign(id, &profile(CampaignState::Draft));
        let named = CampaignReference { campaign_id: id };
        self.write(|tx| published::put(tx, &[(reference.as_bytes(), &named)])).unwrap();
        self.tell(&campaigns::Created {
            campaign_id: id,
            currency: Currency::USD,
            starts_at: day(-100),
            ends_at: None,
            external_refs: vec![kernel::Reference { system: key(system), id: key(external) }],
        });
    }

    pub(crate) fn enroll(
        &self,
        campaign_id: CampaignId,
        partner_id: PartnerId,
        code: Option<&str>,
        from: Option<Timestamp>,
        to: Option<Timestamp>,
    ) {
        self.write(|tx| {
            let (enrollment_id, opened_at): (EnrollmentId, _) = (tx.new_id(), tx.now());
            let pair = Enrollments::key(campaign_id, partner_id);
            let mut spans = published::get_one::<Enrollments>(tx, &pair)?.unwrap_or_default();
            spans.0.push(EnrollmentSpan { enrollment_id, opened_at, from, to, closed_at: None });
            published::put(tx, &[(pair.as_slice(), &spans)])?;
            if let Some(code) = code {
                let owner = CodeOwner { campaign_id, partner_id, enrollment_id, opened_at };
                published::put(tx, &[(code.as_bytes(), &owner)])?;
            }
            let code = code.map(key);
            let opened = EnrollmentOpened { enrollment_id, campaign_id, partner_id, code, from, to };
            tx.publish(&[NewEvent::of(&opened)])
        })
        .unwrap();
    }

    pub(crate) fn prepare(&self, fact: Fact) -> Result<Prepared> {
        prepare(fact, &self.keys, self.db.now())
    }

    pub(crate) fn record(&self, facts: Vec<Fact>) -> Vec<Result<Receipt>> {
        let prepared: Vec<Prepared> = facts.into_iter().map(|fact| self.prepare(fact).unwrap()).collect();
        let correlation_ids = vec![None; prepared.len()];
        self.write(|tx| record(tx, &prepared, &correlation_ids)).unwrap()
    }

    /// Records facts that are all good.
    pub(crate) fn take(&self, facts: Vec<Fact>) -> Vec<Receipt> {
        self.record(facts).into_iter().map(|receipt| receipt.unwrap()).collect()
    }

    /// Runs the reaction until it has seen everything.
    pub(crate) fn run(&mut self) {
        while self.runner.step(&self.db).unwrap() != Step::Idle {}
        let dead = self.db.read(|reader| platform::dead_letters::list(reader, None, 10)).unwrap();
        assert!(dead.is_empty(), "{:?}", dead[0].reason);
    }

    /// Records facts and runs.
    pub(crate) fn play(&mut self, facts: Vec<Fact>) {
        self.take(facts);
        self.run();
    }

    pub(crate) fn sweep(&self) -> usize {
        let settings = self.settings;
        self.write(|tx| sweep(tx, settings)).unwrap()
    }

    pub(crate) fn find(&self, external_id: &str) -> ConversionView {
        let filter = ConversionFilter { external_id: Some(key(external_id)), ..ConversionFilter::default() };
        self.db.read(|reader| list(reader, &filter, &platform::Page::first(1))).unwrap().items.remove(0)
    }

    /// State and partner's number (0: nobody) of a conversion.
    pub(crate) fn credited(&self, external_id: &str) -> (String, u8) {
        let view = self.find(external_id);
        (view.state.to_string(), view.partner_id.map_or(0, |id| id.as_bytes()[0]))
    }

    /// Everything in the log of one type, decoded.
    pub(crate) fn told<E: kernel::Event>(&self) -> Vec<E> {
        self.log().iter().filter(|event| event.is::<E>()).map(|event| event.decode().unwrap()).collect()
    }

    pub(crate) fn log(&self) -> Vec<EventRecord> {
        self.db.read(|reader| event_log::range(reader, 0, i64::MAX, &[], usize::MAX)).unwrap()
    }

    pub(crate) fn statements(&self) -> u64 {
        self.db.stats().statements.load(Ordering::Relaxed)
    }

    /// How many facts wait.
    pub(crate) fn parked(&self) -> i64 {
        self.db.read(platform::parking::count).unwrap().0
    }

    /// `verify` finds nothing.
    pub(crate) fn assert_verified(&self) {
        for check in self.db.read(check).unwrap() {
            assert!(check.differences.is_empty(), "{}: {:#?}", check.name, check.differences);
        }
    }
}

impl From<NewTouch> for Fact {
    fn from(fact: NewTouch) -> Self {
        Self::Touch(fact)
    }
}
impl From<NewConversion> for Fact {
    fn from(fact: NewConversion) -> Self {
        Self::Conversion(fact)
    }
}
impl From<NewRefund> for Fact {
    fn from(fact: NewRefund) -> Self {
        Self::Refund(fact)
    }
}
