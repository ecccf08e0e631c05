//! What the tests of this crate share: a database in memory whose clock they move, a campaign, partners, and the events
//! that other contexts would send.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use events::campaigns::{
    AttributionPolicy, CampaignProfile, CampaignState, Component, Conditions, Terms, TermsVersion,
};
use events::conversions::{
    Attributed, Candidate, ConversionKind, Line, RefundKind, Refunded, Refunds, Rejected, Rule, Unattributed,
};
use events::partners::{PartnerProfile, PartnerState};
use kernel::{
    Amount, BasisPoints, CampaignId, CommissionId, ConversionId, Currency, EventRecord, IdSource, ManualClock, Money,
    NewEvent, PartnerId, Published, Reason, RefundId, Result, Timestamp,
};
use ledger::Balance;
use platform::{Db, DbOptions, Lane, Migration, Page, Reader, Runner, Step, Tx, event_log, published};

use crate::{
    CommissionAction, CommissionFilter, CommissionView, approve_many, change, check, consumer, end_holds, views,
};

pub(crate) const CAMPAIGN: CampaignId = CampaignId::from_bytes([2; 16]);

/// Day 0 of every test is 2026-01-31T12:00:00Z.
pub(crate) fn day(number: u32) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000).plus_days(number)
}

pub(crate) fn partner(n: u8) -> PartnerId {
    PartnerId::from_bytes([n; 16])
}

pub(crate) fn conversion(n: u32) -> ConversionId {
    let mut bytes = [5; 16];
    bytes[12..].copy_from_slice(&n.to_be_bytes());
    ConversionId::from_bytes(bytes)
}

pub(crate) fn percent(basis_points: u32) -> Component {
    let basis_points = BasisPoints::new(basis_points).unwrap();
    Component::Percent { basis_points, conditions: Conditions::default() }
}

/// 8.00 % and 1.50 for a first purchase of at least 10.00, at most 25.00; 30 days; automatic up to 10.00.
pub(crate) fn terms() -> Terms {
    let minimum = Conditions { minimum_amount_minor: Some(1_000), ..Conditions::default() };
    Terms {
        components: vec![percent(800), Component::FirstPurchaseBonus { amount_minor: 150, conditions: minimum }],
        cap_minor: Some(2_500),
        hold_days: 30,
        auto_approve_up_to_minor: Some(1_000),
    }
}

pub(crate) fn version(version: u32, valid_from: Timestamp, terms: Terms) -> TermsVersion {
    TermsVersion { version, valid_from, published_at: day(0), terms }
}

pub(crate) fn usd(amount_minor: i64) -> Amount {
    Amount::new(Money::new(amount_minor, Currency::USD)).unwrap()
}

/// Conversion `n` of customer `n`, worth `amount_minor`, credited to partner 1 as recorded on day 0.
pub(crate) fn attributed(n: u32, amount_minor: i64) -> Attributed {
    Attributed {
        conversion_id: conversion(n),
        decision: 1,
        campaign_id: CAMPAIGN,
        partner_id: partner(1),
        rule: Rule::Code,
        kind: ConversionKind::Sale,
        occurred_at: day(0),
        recorded_at: day(0),
        amount: usd(amount_minor),
        lines: Vec::<Line>::new(),
        customer: Some(format!("{n:032x}")),
        first_purchase: false,
        refunds: Refunds::default(),
        terms: None,
        candidates: vec![Candidate {
            rule: Rule::Code,
            partner_id: Some(partner(1)),
            touch_id: None,
            outcome: "won".to_owned(),
        }],
    }
}

pub(crate) fn refunds(refunded_minor: i64, whole: bool) -> Refunds {
    Refunds { refunded_minor, whole, excess_minor: 0 }
}

pub(crate) fn refunded(n: u32, amount_minor: i64, refunds: Refunds) -> Refunded {
    Refunded {
        recorded_at: None,
        conversion_id: conversion(n),
        refund_id: RefundId::from_bytes([6; 16]),
        kind: RefundKind::Refund,
        amount: usd(amount_minor),
        refunds,
    }
}

pub(crate) fn unattributed(n: u32) -> Unattributed {
    Unattributed { conversion_id: conversion(n), decision: 9, campaign_id: Some(CAMPAIGN), candidates: Vec::new() }
}

pub(crate) fn rejected(n: u32) -> Rejected {
    Rejected { conversion_id: conversion(n), decision: 9, reason: "campaign_paused".to_owned() }
}

pub(crate) struct World {
    pub(crate) db: Db,
    clock: Arc<ManualClock>,
}

/// A published table, as its owner creates it.
fn published_table<T: Published>(number: i64) -> &'static [Migration] {
    let columns = "(doc_key {bytes} NOT NULL PRIMARY KEY, doc {text} NOT NULL) {clustered};";
    let sql: &'static str = Box::leak(["CREATE TABLE", T::TABLE, columns].join(" ").into_boxed_str());
    Box::leak(Box::new([Migration::new(number, "tests", sql)]))
}

pub(crate) fn migrations() -> Vec<&'static [Migration]> {
    let published = [published_table::<CampaignProfile>(1_001), published_table::<PartnerProfile>(1_002)];
    [&[platform::MIGRATIONS, ledger::MIGRATIONS, crate::MIGRATIONS][..], &published].concat()
}

pub(crate) fn options(clock: &Arc<ManualClock>) -> DbOptions {
    DbOptions { clock: Arc::clone(clock) as _, ids: IdSource::from_number(1), hook: None, migrations: migrations() }
}

/// Day 0, partners 1 to 3 active, the campaign with [`terms`].
pub(crate) fn world() -> World {
    let clock = Arc::new(ManualClock::at(day(0)));
    World::over(Db::for_test(options(&clock)).unwrap(), clock)
}

impl World {
    pub(crate) fn over(db: Db, clock: Arc<ManualClock>) -> Self {
        let world = Self { db, clock };
        world.campaign(vec![version(1, day(0), terms())], None);
        for n in 1..=3 {
            world.partner_is(n, PartnerState::Active);
        }
        world
    }

    pub(crate) fn write<T>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.db.write("test", Lane::Front, "tester", work)
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> T {
        self.db.read(work).unwrap()
    }

    pub(crate) fn set_day(&self, number: u32) {
        self.clock.set(day(number));
    }

    pub(crate) fn campaign(&self, terms: Vec<TermsVersion>, budget_minor: Option<i64>) {
        let profile = CampaignProfile {
            state: CampaignState::Active,
            currency: Currency::USD,
            starts_at: day(0),
            ends_at: None,
            pauses: Vec::new(),
            attribution: AttributionPolicy::default(),
            terms,
            budget_minor,
        };
        self.write(|tx| published::put(tx, &[(CAMPAIGN.as_bytes().as_slice(), &profile)])).unwrap();
    }

    pub(crate) fn partner_is(&self, n: u8, state: PartnerState) {
        let profile = PartnerProfile { state, inactive: Vec::new() };
        self.write(|tx| published::put(tx, &[(partner(n).as_bytes().as_slice(), &profile)])).unwrap();
    }

    pub(crate) fn publish(&self, events: &[NewEvent]) -> i64 {
        self.write(|tx| tx.publish(events)).unwrap()
    }

    /// Publishes an event and reacts to it.
    pub(crate) fn tell<E: kernel::Event>(&self, event: &E) {
        self.publish(&[NewEvent::of(event)]);
        self.react(512);
    }

    /// Lets the consumer handle everything that is there, in slices of at most `slice`; answers its statements.
    pub(crate) fn react(&self, slice: usize) -> u64 {
        let before = self.db.stats().statements.load(Ordering::SeqCst);
        let mut runner = Runner::new(consumer());
        runner.slice = slice;
        while runner.step(&self.db).unwrap() != Step::Idle {}
        assert_eq!(self.read(platform::dead_letters::count), 0, "no dead letters");
        self.db.stats().statements.load(Ordering::SeqCst) - before
    }

    pub(crate) fn end_holds(&self) -> usize {
        self.write(|tx| end_holds(tx, 1_000)).unwrap()
    }

    pub(crate) fn act(&self, id: CommissionId, action: CommissionAction) -> Result<CommissionView> {
        self.write(|tx| change(tx, id, action, Some(Reason::new("because").unwrap())))
    }

    pub(crate) fn approve_many(&self, ids: &[CommissionId]) -> Vec<(CommissionId, Result<()>)> {
        self.write(|tx| approve_many(tx, ids)).unwrap()
    }

    /// All commissions of conversion `n`, oldest first.
    pub(crate) fn of(&self, n: u32) -> Vec<CommissionView> {
        let filter = CommissionFilter { conversion_id: Some(conversion(n)), ..CommissionFilter::default() };
        self.read(|reader| views::list(reader, &filter, &Page::first(100))).items
    }

    /// The live commission of conversion `n`.
    pub(crate) fn live(&self, n: u32) -> Option<CommissionView> {
        self.read(|reader| views::live_of(reader, &[conversion(n)])).remove(&conversion(n))
    }

    pub(crate) fn balance(&self, n: u8) -> Balance {
        let balances = self.read(|reader| ledger::balances(reader, event_log::head(reader)?, Some(partner(n))));
        balances.first().map(|found| found.balance).unwrap_or_default()
    }

    pub(crate) fn events_after(&self, position: i64) -> Vec<EventRecord> {
        self.read(|reader| event_log::range(reader, position, i64::MAX, &[], 100_000))
    }

    /// The names of the events of this context after `position`, without the context and version.
    pub(crate) fn told_after(&self, position: i64) -> Vec<String> {
        let own = |event: EventRecord| {
            let name = event.event_type.strip_prefix("commissions.")?.strip_suffix(".v1")?;
            Some(name.to_owned())
        };
        self.events_after(position).into_iter().filter_map(own).collect()
    }

    pub(crate) fn head(&self) -> i64 {
        self.read(event_log::head)
    }

    /// `verify` finds nothing wrong, here and in the ledger.
    pub(crate) fn assert_sound(&self) {
        for check in self.read(check) {
            assert_eq!(check.differences, Vec::<String>::new(), "{}", check.name);
        }
        assert_eq!(self.read(ledger::check).1, Vec::<String>::new());
    }

    /// What order and splits must not change: per conversion the live commission without its id and positions.
    pub(crate) fn outcome(&self) -> Vec<String> {
        let all = self.read(|reader| views::list(reader, &CommissionFilter::default(), &Page::first(100_000)));
        let mut found: Vec<String> = all
            .items
            .into_iter()
            .map(|c| {
                format!(
                    "{} {} {} {} {} {} {} {}",
                    c.conversion_id,
                    c.partner_id,
                    c.state,
                    c.queued,
                    c.gross_minor,
                    c.kept_minor,
                    c.bonus,
                    c.terms_version
                )
            })
            .collect();
        found.sort();
        found.extend((1..=3).map(|n| format!("{:?}", self.balance(n))));
        found
    }
}
