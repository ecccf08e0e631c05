//! What an event adds to the summary. Every event is a delta by itself: no earlier event is needed, so that any split of
//! the log into slices adds up to the same.
//!
//! The day is that on which the event became known, as it is for the ledger's entries: an approval takes from `pending`
//! and adds to `approved` on its own day. So a day shows what happened on it, days add up to how things stand, and both
//! tie with the ledger.

use events::commissions as told;
use events::commissions::{CommissionState as State, EntryNote};
use kernel::{CampaignId, Currency, Event, EventRecord, PartnerId, Result};

/// Where something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cell {
    /// Days since 1970, UTC.
    pub(crate) day: i64,
    /// The campaign.
    pub(crate) campaign_id: CampaignId,
    /// The partner.
    pub(crate) partner_id: PartnerId,
    /// The currency.
    pub(crate) currency: Currency,
    /// The state.
    pub(crate) state: State,
}

/// What is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Measures {
    /// Commissions.
    pub(crate) commissions: i64,
    /// What they accrued and was not undone, minor units.
    pub(crate) accrued_minor: i64,
    /// What refunds took back of it, minor units; the rest is kept.
    pub(crate) reversed_minor: i64,
}

impl Measures {
    /// Adds `other`; `None` when a sum leaves the range of i64.
    pub(crate) fn add(&mut self, other: Self) -> Option<()> {
        self.commissions = self.commissions.checked_add(other.commissions)?;
        self.accrued_minor = self.accrued_minor.checked_add(other.accrued_minor)?;
        self.reversed_minor = self.reversed_minor.checked_add(other.reversed_minor)?;
        Some(())
    }

    const fn negated(self) -> Self {
        Self {
            commissions: -self.commissions,
            accrued_minor: -self.accrued_minor,
            reversed_minor: -self.reversed_minor,
        }
    }
}

/// The events that change the summary. The others of `commissions` move nothing between states.
pub(crate) const TYPES: [&str; 10] = [
    told::Accrued::TYPE,
    told::Reversed::TYPE,
    told::Superseded::TYPE,
    told::Held::TYPE,
    told::Released::TYPE,
    told::Approved::TYPE,
    told::Rejected::TYPE,
    told::PayoutStarted::TYPE,
    told::PaidOut::TYPE,
    told::PayoutUndone::TYPE,
];

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// What `record` adds, cell by cell.
pub(crate) fn deltas(record: &EventRecord) -> Result<Vec<(Cell, Measures)>> {
    macro_rules! change {
        ($event:ident, $to:expr) => {{
            let event: told::$event = record.decode()?;
            let cell = cell(record, event.campaign_id, event.partner_id, event.currency, $to);
            moved(cell, event.from_state, event.gross_minor, event.kept_minor, &event.entries)
        }};
    }
    Ok(match record.event_type.as_str() {
        told::Accrued::TYPE => {
            let event: told::Accrued = record.decode()?;
            let cell = cell(record, event.campaign_id, event.partner_id, event.currency, State::Pending);
            vec![(cell, Measures { commissions: 1, accrued_minor: event.gross_minor, reversed_minor: 0 })]
        }
        told::Reversed::TYPE => {
            let event: told::Reversed = record.decode()?;
            let cell = cell(record, event.campaign_id, event.partner_id, event.currency, event.state);
            vec![(cell, Measures { reversed_minor: event.reversed_minor, ..Measures::default() })]
        }
        told::Superseded::TYPE => change!(Superseded, State::Superseded),
        told::Held::TYPE => change!(Held, State::Held),
        told::Released::TYPE => change!(Released, State::Pending),
        told::Approved::TYPE => change!(Approved, State::Approved),
        told::Rejected::TYPE => change!(Rejected, State::Rejected),
        told::PayoutStarted::TYPE => change!(PayoutStarted, State::InPayout),
        told::PaidOut::TYPE => change!(PaidOut, State::Paid),
        told::PayoutUndone::TYPE => change!(PayoutUndone, State::Approved),
        _ => Vec::new(),
    })
}

fn cell(
    record: &EventRecord,
    campaign_id: CampaignId,
    partner_id: PartnerId,
    currency: Currency,
    state: State,
) -> Cell {
    Cell { day: record.time.as_micros().div_euclid(MICROS_PER_DAY), campaign_id, partner_id, currency, state }
}

/// Takes a commission out of the state before and puts it into `to`, with what the entries undo on the way.
fn moved(
    to: Cell,
    from: Option<State>,
    gross_minor: i64,
    kept_minor: i64,
    entries: &[EntryNote],
) -> Vec<(Cell, Measures)> {
    let Some(from) = from else {
        // Refused before anything was accrued.
        return vec![(to, Measures { commissions: 1, ..Measures::default() })];
    };
    let before = Measures { commissions: 1, accrued_minor: gross_minor, reversed_minor: gross_minor - kept_minor };
    let sum = |kinds: &[&str]| -> i64 {
        entries.iter().filter(|entry| kinds.contains(&entry.kind.as_str())).map(|entry| entry.amount_minor).sum()
    };
    let after = Measures {
        commissions: 1,
        accrued_minor: before.accrued_minor - sum(&["undone", "rejected"]),
        reversed_minor: before.reversed_minor - sum(&["restored_pending"]),
    };
    vec![(Cell { state: from, ..to }, before.negated()), (to, after)]
}
