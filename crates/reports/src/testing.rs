//! What the tests of this crate share: a database in memory in which commissions live, told and posted as their context
//! does it.

use std::sync::Arc;

use events::commissions as told;
use events::commissions::{CommissionState as State, EntryNote};
use kernel::{
    CampaignId, CommissionId, ConversionId, Currency, IdSource, ManualClock, NewEvent, PartnerId, Result, Timestamp,
};
use ledger::{Entry, EntryKind};
use platform::{Db, DbOptions, Lane, Reader, Runner, Step, Tx};

use crate::{GroupBy, SummaryFilter, SummaryRow, consumer, content_digest, rebuild, summary};

/// A commission as its context sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Commission {
    id: CommissionId,
    pub(crate) partner_id: PartnerId,
    campaign_id: CampaignId,
    currency: Currency,
    pub(crate) state: State,
    gross_minor: i64,
    kept_minor: i64,
    accrued: bool,
}

impl Commission {
    pub(crate) const fn currency(&self) -> Currency {
        self.currency
    }

    /// Whether it ever was in the books: a budget's refusal is not.
    pub(crate) const fn was_accrued(&self) -> bool {
        self.accrued
    }

    /// What the books have of it: accrued and reversed, minor units.
    pub(crate) fn books(&self) -> (i64, i64) {
        let reversed_minor = self.gross_minor - self.kept_minor;
        match self.state {
            State::Superseded => (0, 0),
            // Refused with what was left: what refunds had taken stays in the books.
            State::Rejected => (reversed_minor, reversed_minor),
            _ => (self.gross_minor, reversed_minor),
        }
    }
}

pub(crate) struct World {
    pub(crate) db: Db,
    clock: Arc<ManualClock>,
    pub(crate) commissions: Vec<Commission>,
}

/// Day 0 of every test is 2026-01-31, at noon.
pub(crate) fn day(number: u32) -> Timestamp {
    Timestamp::from_micros(1_769_860_800_000_000).plus_days(number)
}

pub(crate) fn partner(number: u8) -> PartnerId {
    PartnerId::from_bytes([number; 16])
}

pub(crate) fn campaign(number: u8) -> CampaignId {
    CampaignId::from_bytes([100 + number; 16])
}

macro_rules! change {
    ($name:ident, $commission:expr, $from:expr, $entries:expr) => {
        NewEvent::of(&told::$name {
            commission_id: $commission.id,
            conversion_id: ConversionId::from_bytes(*$commission.id.as_bytes()),
            campaign_id: $commission.campaign_id,
            partner_id: $commission.partner_id,
            currency: $commission.currency,
            from_state: $from,
            gross_minor: $commission.gross_minor,
            kept_minor: $commission.kept_minor,
            reason: None,
            payout_item_id: None,
            entries: notes($entries),
        })
    };
}

pub(crate) fn world() -> World {
    let clock = Arc::new(ManualClock::at(day(0)));
    let options = DbOptions {
        clock: Arc::clone(&clock) as _,
        ids: IdSource::from_number(1),
        hook: None,
        migrations: vec![platform::MIGRATIONS, ledger::MIGRATIONS, crate::MIGRATIONS],
    };
    World { db: Db::for_test(options).unwrap(), clock, commissions: Vec::new() }
}

impl World {
    pub(crate) fn write<T>(&self, work: impl FnMut(&mut Tx<'_>) -> Result<T>) -> T {
        self.db.write("test", Lane::Front, "tester", work).unwrap()
    }

    pub(crate) fn read<T>(&self, work: impl FnOnce(&Reader<'_>) -> Result<T>) -> T {
        self.db.read(work).unwrap()
    }

    pub(crate) fn set_time(&self, time: Timestamp) {
        self.clock.set(time);
    }

    /// Projects everything that is new, in slices of `slice` events.
    pub(crate) fn project(&self, slice: usize) {
        let mut runner = Runner::new(consumer());
        runner.slice = slice;
        while runner.step(&self.db).unwrap() != Step::Idle {}
    }

    /// Builds the projection from zero, in slices of `slice` events, and answers its digest.
    pub(crate) fn rebuilt(&self, slice: usize) -> String {
        self.write(rebuild);
        self.project(slice);
        self.read(content_digest)
    }

    pub(crate) fn summary(&self, group_by: GroupBy, filter: &SummaryFilter) -> Vec<SummaryRow> {
        self.read(|reader| summary(reader, group_by, filter))
    }

    pub(crate) fn accrue(&mut self, partner_id: PartnerId, campaign_id: CampaignId, gross_minor: i64) -> usize {
        self.accrue_in(partner_id, campaign_id, gross_minor, Currency::USD)
    }

    pub(crate) fn accrue_in(
        &mut self,
        partner_id: PartnerId,
        campaign_id: CampaignId,
        gross_minor: i64,
        currency: Currency,
    ) -> usize {
        let commission = Commission {
            id: self.db.new_id(),
            partner_id,
            campaign_id,
            currency,
            state: State::Pending,
            gross_minor,
            kept_minor: gross_minor,
            accrued: true,
        };
        let entries = [entry(&commission, EntryKind::Accrued, gross_minor)];
        let event = NewEvent::of(&told::Accrued {
            commission_id: commission.id,
            conversion_id: ConversionId::from_bytes(*commission.id.as_bytes()),
            campaign_id,
            partner_id,
            currency,
            terms_version: 1,
            gross_minor,
            bonus: false,
            decision_position: 1,
            inputs_digest: String::new(),
            hold_ends_at: day(30),
            // Long before: the day of a report is that of knowing.
            occurred_at: Timestamp::from_micros(0),
            entries: notes(&entries),
        });
        self.tell(event, &entries);
        self.commissions.push(commission);
        self.commissions.len() - 1
    }

    /// Refused by the budget, before anything was accrued.
    pub(crate) fn refuse(&mut self, partner_id: PartnerId, campaign_id: CampaignId, gross_minor: i64) {
        let commission = Commission {
            id: self.db.new_id(),
            partner_id,
            campaign_id,
            currency: Currency::USD,
            state: State::Rejected,
            gross_minor,
            kept_minor: gross_minor,
            accrued: false,
        };
        self.tell(change!(Rejected, commission, None, &[]), &[]);
        self.commissions.push(commission);
    }

    /// Takes `amount_minor` back (negative: gives it back), within what there is.
    pub(crate) fn reverse(&mut self, index: usize, amount_minor: i64) {
        let commission = &mut self.commissions[index];
        let before_minor = commission.kept_minor;
        let reversed_minor = amount_minor.clamp(before_minor - commission.gross_minor, before_minor);
        if reversed_minor == 0 || matches!(commission.state, State::Rejected | State::Superseded) {
            return;
        }
        commission.kept_minor -= reversed_minor;
        let after_approval = matches!(commission.state, State::Approved | State::InPayout | State::Paid);
        let kind = match (after_approval, reversed_minor > 0) {
            (false, true) => EntryKind::ReversedPending,
            (false, false) => EntryKind::RestoredPending,
            (true, true) => EntryKind::Reversed,
            (true, false) => EntryKind::Restored,
        };
        let commission = *commission;
        let entries = [entry(&commission, kind, reversed_minor.abs())];
        let event = NewEvent::of(&told::Reversed {
            commission_id: commission.id,
            conversion_id: ConversionId::from_bytes(*commission.id.as_bytes()),
            campaign_id: commission.campaign_id,
            partner_id: commission.partner_id,
            currency: commission.currency,
            kept_minor: commission.kept_minor,
            reversed_minor,
            state: commission.state,
            after_approval,
            refund_position: 1,
            entries: notes(&entries),
        });
        self.tell(event, &entries);
    }

    /// Moves a commission into another state, where that is legal; tells and posts what belongs to it.
    pub(crate) fn change(&mut self, index: usize, to: State) {
        let commission = self.commissions[index];
        let from = commission.state;
        let kept = |kind| vec![(kind, commission.kept_minor)];
        let reversed_minor = commission.gross_minor - commission.kept_minor;
        let posted = match (from, to) {
            (State::Pending, State::Held) | (State::Held, State::Pending) => Vec::new(),
            (State::Pending, State::Approved) => kept(EntryKind::Approved),
            (State::Pending | State::Held, State::Rejected) => kept(EntryKind::Rejected),
            (State::Pending | State::Held, State::Superseded) => {
                vec![(EntryKind::Undone, commission.gross_minor), (EntryKind::RestoredPending, reversed_minor)]
            }
            (State::Approved, State::InPayout) => kept(EntryKind::PayoutCreated),
            // Clawbacks while it is in a payout do not change what the gateway pays; here they never meet.
            (State::InPayout, State::Paid) | (State::InPayout | State::Paid, State::Approved) => Vec::new(),
            _ => return,
        };
        let entries: Vec<Entry> = posted
            .into_iter()
            .filter(|(_, amount_minor)| *amount_minor > 0)
            .map(|(kind, amount_minor)| entry(&commission, kind, amount_minor))
            .collect();
        let from = Some(from);
        let event = match to {
            State::Held => change!(Held, commission, from, &entries),
            State::Pending => change!(Released, commission, from, &entries),
            State::Approved if from == Some(State::Pending) => change!(Approved, commission, from, &entries),
            State::Approved => change!(PayoutUndone, commission, from, &entries),
            State::Rejected => change!(Rejected, commission, from, &entries),
            State::Superseded => change!(Superseded, commission, from, &entries),
            State::InPayout => change!(PayoutStarted, commission, from, &entries),
            State::Paid => change!(PaidOut, commission, from, &entries),
        };
        self.tell(event, &entries);
        self.commissions[index].state = to;
    }

    fn tell(&self, event: NewEvent, entries: &[Entry]) {
        self.write(|tx| {
            let position = tx.publish(std::slice::from_ref(&event))?;
            let lines: Vec<(i64, i64, Entry)> =
                (0..).zip(entries).map(|(line, entry)| (position, line, entry.clone())).collect();
            ledger::post(tx, &lines)
        });
    }
}

fn entry(commission: &Commission, kind: EntryKind, amount_minor: i64) -> Entry {
    Entry {
        kind,
        partner_id: commission.partner_id,
        campaign_id: Some(commission.campaign_id),
        gateway: None,
        source_id: *commission.id.as_bytes(),
        amount_minor,
        currency: commission.currency,
    }
}

fn notes(entries: &[Entry]) -> Vec<EntryNote> {
    let note = |entry: &Entry| EntryNote {
        kind: entry.kind.to_string(),
        amount_minor: entry.amount_minor,
        digest: entry.digest(),
    };
    entries.iter().map(note).collect()
}
