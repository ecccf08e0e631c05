//! What a transaction tells: events and the entries that each of them tells, collected in order, published at once and
//! posted under their positions. It must not know why they are told.

use events::commissions::EntryNote;
use kernel::{EventRecord, NewEvent, Result};
use ledger::{Entry, EntryKind};
use platform::Tx;

use crate::commission::Commission;
use crate::model::{Difference, is_frozen};

/// Events with their entries, in order.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    events: Vec<NewEvent>,
    /// The index of the event, the entry's line in it, the entry.
    entries: Vec<(i64, i64, Entry)>,
}

impl Journal {
    /// Adds an event with its entries; answers its place in the journal, from 0.
    pub(crate) fn tell(&mut self, cause: Option<&EventRecord>, event: NewEvent, entries: Vec<Entry>) -> i64 {
        let index = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        self.events.push(match cause {
            Some(cause) => event.caused_by(cause),
            None => event,
        });
        self.entries.extend((0..).zip(entries).map(|(line, entry)| (index, line, entry)));
        index
    }

    /// Publishes the events; answers the position of the first.
    pub(crate) fn publish(&self, tx: &mut Tx<'_>) -> Result<i64> {
        if self.events.is_empty() { Ok(0) } else { tx.publish(&self.events) }
    }

    /// Posts the entries under the positions of their events.
    pub(crate) fn post(mut self, tx: &mut Tx<'_>, first: i64) -> Result<()> {
        for (position, _, _) in &mut self.entries {
            *position += first;
        }
        ledger::post(tx, &self.entries)
    }
}

/// What an event says about its entries.
pub(crate) fn notes(entries: &[Entry]) -> Vec<EntryNote> {
    let note = |entry: &Entry| EntryNote {
        kind: entry.kind.as_str().to_owned(),
        amount_minor: entry.amount_minor,
        digest: entry.digest(),
    };
    entries.iter().map(note).collect()
}

/// An entry about a commission.
pub(crate) fn entry(commission: &Commission, kind: EntryKind, amount_minor: i64) -> Entry {
    Entry {
        kind,
        partner_id: commission.partner_id,
        // The approval moves an amount between two accounts of the partner; the others are the campaign's expense.
        campaign_id: (kind != EntryKind::Approved).then_some(commission.campaign_id),
        gateway: None,
        source_id: *commission.id.as_bytes(),
        amount_minor,
        currency: commission.currency,
    }
}

/// The entries of a difference: target minus posted (rules sections 5, 6 and 8).
pub(crate) fn entries(commission: &Commission, difference: Difference) -> Vec<Entry> {
    let (reversed, restored) = if is_frozen(commission.state) {
        (EntryKind::Reversed, EntryKind::Restored)
    } else {
        (EntryKind::ReversedPending, EntryKind::RestoredPending)
    };
    let mut entries = Vec::new();
    let mut add = |amount_minor: i64, more: EntryKind, less: EntryKind| {
        if amount_minor != 0 {
            entries.push(entry(commission, if amount_minor > 0 { more } else { less }, amount_minor.abs()));
        }
    };
    add(difference.accrued_minor, EntryKind::Accrued, EntryKind::Undone);
    add(difference.reversed_minor, reversed, restored);
    entries
}

/// The event of a change of state, with the state before it; all of them carry the same.
macro_rules! change {
    ($event:ident, $commission:expr, $from:expr, $reason:expr, $entries:expr) => {{
        let commission: &$crate::commission::Commission = $commission;
        let reason: Option<&str> = $reason;
        kernel::NewEvent::of(&events::commissions::$event {
            commission_id: commission.id,
            conversion_id: commission.conversion_id,
            campaign_id: commission.campaign_id,
            partner_id: commission.partner_id,
            currency: commission.currency,
            from_state: $from,
            gross_minor: commission.gross_minor,
            kept_minor: commission.kept_minor,
            reason: reason.map(str::to_owned),
            payout_item_id: commission.payout_item_id,
            entries: $crate::journal::notes($entries),
        })
    }};
}
pub(crate) use change;
