//! What the tests of this crate share: a database in memory with partners that have earned something, a clock that is
//! moved, commits that fail on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use events::commissions::{Accrued, Approved, CommissionState, PayoutStarted, Reversed};
use events::partners::{PartnerProfile, PartnerState};
use kernel::{
    CampaignId, CommissionId, ConversionId, Currency, Fault, IdSource, ManualClock, NewEvent, PartnerId, PayoutId,
    Result, Timestamp, problems,
};
use ledger::{Balance, Entry, EntryKind};
use platform::{Db, DbOptions, Lane, Migration, Reader, Tx, event_log, published};

use crate::create_payout::note;
use crate::{CreatePayout, PaymentGateway, PayoutView, Settings, approve, check, step, submit, views};

pub(crate) const SETTINGS: Settings = Settings { approval_limit_minor: 1_000_000, gateway: "sandbox" };
const CAMPAIGN: CampaignId = CampaignId::from_bytes([7; 16]);

pub(crate) struct World {
    pub(crate) db: Db,
    clock: Arc<ManualClock>,
    /// The commit that fails next: its transaction's name, and the moment.
    failing: Arc<Mutex<Option<(&'static str, &'static str)>>>,
}

/// Day 0 of every test is 2026-01-31T12:00:00Z.
pub(crate) fn day(number: u32) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000).plus_days(number)
}

pub(crate) fn partner(number: u8) -> PartnerId {
    PartnerId::from_bytes([number; 16])
}

pub(crate) fn commission(number: u8) -> CommissionId {
    CommissionId::from_bytes([number; 16])
}

pub(crate) fn everything(cut_off: Timestamp) -> CreatePayout {
    CreatePayout {
        currency: Currency::USD,
        cut_off,
        partner_ids: None,
        commission_ids: None,
        minimum: None,
        dry_run: false,
    }
}

/// The published tables that payouts read belong to another context.
const PARTNERS: &[Migration] =
    &[Migration::new(10, "partners", include_str!("../../partners/migrations/0010_partners.sql"))];

/// A world with the active partners 1 to 9.
pub(crate) fn world() -> World {
    let clock = Arc::new(ManualClock::at(day(0)));
    let failing: Arc<Mutex<Option<(&'static str, &'static str)>>> = Arc::default();
    let planned = Arc::clone(&failing);
    let hook = move |name: &str, moment: &'static str| {
        let mut planned = planned.lock().unwrap();
        if *planned != Some((name_of(name), moment)) {
            return Ok(());
        }
        *planned = None;
        Err(Fault::new(&problems::UNAVAILABLE, format!("crash {moment} of {name}")))
    };
    let options = DbOptions {
        clock: Arc::clone(&clock) as _,
        ids: IdSource::from_number(1),
        hook: Some(Arc::new(hook)),
        migrations: vec![platform::MIGRATIONS, ledger::MIGRATIONS, PARTNERS, crate::MIGRATIONS],
    };
    let world = World { db: Db::for_test(options).unwrap(), clock, failing };
    (1..=9).for_each(|number| world.set_state(partner(number), PartnerState::Active));
    world
}

fn name_of(name: &str) -> &'static str {
    match name {
        "payout_intent" => "payout_intent",
        "payout_outcome" => "payout_outcome",
        _ => "another",
    }
}

impl World {
    pub(crate) fn write<T>(&self, actor: &str, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> Result<T> {
        self.db.write("test", Lane::Front, actor, work)
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> T {
        self.db.read(work).unwrap()
    }

    pub(crate) fn set_time(&self, time: Timestamp) {
        self.clock.set(time);
    }

    /// The next commit of the transaction `name` fails at `moment`.
    pub(crate) fn crash(&self, name: &'static str, moment: &'static str) {
        *self.failing.lock().unwrap() = Some((name, moment));
    }

    pub(crate) fn set_state(&self, partner: PartnerId, state: PartnerState) {
        let profile = PartnerProfile { state, inactive: Vec::new() };
        self.write("test", |tx| published::put(tx, &[(partner.as_bytes().as_slice(), &profile)])).unwrap();
    }

    /// A commission that is approved at once.
    pub(crate) fn earn(&self, partner_id: PartnerId, commission_id: CommissionId, amount_minor: i64) {
        self.earn_in(partner_id, commission_id, amount_minor, Currency::USD);
    }

    pub(crate) fn earn_in(
        &self,
        partner_id: PartnerId,
        commission_id: CommissionId,
        amount_minor: i64,
        currency: Currency,
    ) {
        let entry = |kind| entry(kind, partner_id, commission_id, amount_minor, currency);
        let (accrual, approval) = (entry(EntryKind::Accrued), entry(EntryKind::Approved));
        let accrued = Accrued {
            commission_id,
            conversion_id: ConversionId::from_bytes(*commission_id.as_bytes()),
            campaign_id: CAMPAIGN,
            partner_id,
            currency,
            terms_version: 1,
            gross_minor: amount_minor,
            bonus: false,
            decision_position: 1,
            inputs_digest: String::new(),
            hold_ends_at: self.db.now(),
            occurred_at: self.db.now(),
            entries: vec![note(&accrual)],
        };
        let approved = Approved {
            commission_id,
            conversion_id: ConversionId::from_bytes(*commission_id.as_bytes()),
            campaign_id: CAMPAIGN,
            partner_id,
            currency,
            from_state: Some(CommissionState::Pending),
            gross_minor: amount_minor,
            kept_minor: amount_minor,
            reason: None,
            payout_item_id: None,
            entries: vec![note(&approval)],
        };
        self.write("test", |tx| {
            let first = tx.publish(&[NewEvent::of(&accrued), NewEvent::of(&approved)])?;
            ledger::post(tx, &[(first, 0, accrual.clone()), (first + 1, 0, approval.clone())])
        })
        .unwrap();
    }

    /// A refund after approval takes `amount_minor` (negative: gives back), so that `kept_minor` is left.
    pub(crate) fn claw_back(
        &self,
        partner_id: PartnerId,
        commission_id: CommissionId,
        amount_minor: i64,
        kept_minor: i64,
    ) {
        let kind = if amount_minor > 0 { EntryKind::Reversed } else { EntryKind::Restored };
        let entry = entry(kind, partner_id, commission_id, amount_minor.abs(), Currency::USD);
        let reversed = Reversed {
            commission_id,
            conversion_id: ConversionId::from_bytes(*commission_id.as_bytes()),
            campaign_id: CAMPAIGN,
            partner_id,
            currency: Currency::USD,
            kept_minor,
            reversed_minor: amount_minor,
            state: CommissionState::Approved,
            after_approval: true,
            refund_position: 1,
            entries: vec![note(&entry)],
        };
        self.write("test", |tx| {
            let first = tx.publish(&[NewEvent::of(&reversed)])?;
            ledger::post(tx, &[(first, 0, entry.clone())])
        })
        .unwrap();
    }

    /// What `commissions` tells when a payout takes one of its commissions.
    pub(crate) fn start_payout(&self, partner_id: PartnerId, commission_id: CommissionId, kept_minor: i64) {
        let started = PayoutStarted {
            commission_id,
            conversion_id: ConversionId::from_bytes(*commission_id.as_bytes()),
            campaign_id: CAMPAIGN,
            partner_id,
            currency: Currency::USD,
            from_state: Some(CommissionState::Approved),
            gross_minor: kept_minor,
            kept_minor,
            reason: None,
            payout_item_id: None,
            entries: Vec::new(),
        };
        self.write("test", |tx| tx.publish(&[NewEvent::of(&started)])).unwrap();
    }

    pub(crate) fn create(&self, create: &CreatePayout) -> Result<PayoutView> {
        self.write("maker", |tx| create.run(tx, &SETTINGS))
    }

    /// A batch over everything payable now, approved and submitted.
    pub(crate) fn submitted(&self) -> PayoutView {
        let id = self.create(&everything(self.db.now())).unwrap().id;
        self.write("checker", |tx| approve(tx, id, &SETTINGS)).unwrap();
        self.write("maker", |tx| submit(tx, id)).unwrap()
    }

    pub(crate) fn payout(&self, id: PayoutId) -> PayoutView {
        self.read(|reader| views::one(reader, id))
    }

    /// The states of a batch's items, in the order of partners.
    pub(crate) fn states(&self, id: PayoutId) -> Vec<&'static str> {
        self.payout(id).items.iter().map(|item| item.state.as_str()).collect()
    }

    /// Steps until there is nothing to do at this instant; at most `most` steps.
    pub(crate) fn work(&self, gateway: &dyn PaymentGateway, most: usize) {
        for _ in 0..most {
            if step(&self.db, gateway).unwrap() == 0 {
                return;
            }
        }
        panic!("the worker does not come to rest within {most} steps");
    }

    pub(crate) fn balance(&self, partner_id: PartnerId) -> Balance {
        self.balances().get(&partner_id).copied().unwrap_or_default()
    }

    /// Balances in USD.
    pub(crate) fn balances(&self) -> BTreeMap<PartnerId, Balance> {
        let head = self.db.head();
        let found = self.read(|reader| ledger::balances(reader, head, None));
        found.into_iter().filter(|b| b.currency == Currency::USD).map(|b| (b.partner_id, b.balance)).collect()
    }

    /// (payable, in payout, paid), minor units.
    pub(crate) fn money(&self, partner_id: PartnerId) -> (i64, i64, i64) {
        let balance = self.balance(partner_id);
        (balance.payable_minor, balance.in_payout_minor, balance.paid_minor)
    }

    /// The types of the events after `position`, in order.
    pub(crate) fn told_since(&self, position: i64) -> Vec<String> {
        let head = self.db.head();
        let events = self.read(|reader| event_log::range(reader, position, head, &[], 10_000));
        events.into_iter().map(|event| event.event_type).collect()
    }

    /// The own check and the ledger's find nothing.
    pub(crate) fn assert_sound(&self) {
        let checks = self.read(check);
        assert!(checks.iter().all(|check| check.differences.is_empty()), "{checks:#?}");
        let (_, differences) = self.read(ledger::check);
        assert_eq!(differences, Vec::<String>::new());
    }
}

fn entry(
    kind: EntryKind,
    partner_id: PartnerId,
    commission_id: CommissionId,
    amount_minor: i64,
    currency: Currency,
) -> Entry {
    Entry {
        kind,
        partner_id,
        campaign_id: (kind != EntryKind::Approved).then_some(CAMPAIGN),
        gateway: None,
        source_id: *commission_id.as_bytes(),
        amount_minor,
        currency,
    }
}
