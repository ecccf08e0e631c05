//! What of one commission is payable, read from its own history: approved less reversed plus restored, unless a payout
//! has it.

use events::commissions as told;
use events::commissions::CommissionState as State;
use kernel::{Currency, Event, EventRecord, PartnerId, Result};

/// A commission as its last event leaves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PayableCommission {
    /// The partner.
    pub(crate) partner_id: PartnerId,
    /// The currency.
    pub(crate) currency: Currency,
    /// Its state.
    pub(crate) state: State,
    /// What is kept of it, minor units; payable when the state is `approved`.
    pub(crate) kept_minor: i64,
}

/// The commission after its events; none when there are none.
pub(crate) fn payable_commission(history: &[EventRecord]) -> Result<Option<PayableCommission>> {
    let mut commission = None;
    for record in history {
        if let Some(later) = after(record)? {
            commission = Some(later);
        }
    }
    Ok(commission)
}

fn after(record: &EventRecord) -> Result<Option<PayableCommission>> {
    macro_rules! change {
        ($event:ident, $state:expr) => {{
            let event: told::$event = record.decode()?;
            (event.partner_id, event.currency, $state, event.kept_minor)
        }};
    }
    let (partner_id, currency, state, kept_minor) = match record.event_type.as_str() {
        told::Accrued::TYPE => {
            let event: told::Accrued = record.decode()?;
            (event.partner_id, event.currency, State::Pending, event.gross_minor)
        }
        told::Reversed::TYPE => {
            let event: told::Reversed = record.decode()?;
            (event.partner_id, event.currency, event.state, event.kept_minor)
        }
        told::Superseded::TYPE => change!(Superseded, State::Superseded),
        told::Held::TYPE => change!(Held, State::Held),
        told::Queued::TYPE => change!(Queued, State::Pending),
        told::Released::TYPE => change!(Released, State::Pending),
        told::Approved::TYPE => change!(Approved, State::Approved),
        told::Rejected::TYPE => change!(Rejected, State::Rejected),
        told::PayoutStarted::TYPE => change!(PayoutStarted, State::InPayout),
        told::PaidOut::TYPE => change!(PaidOut, State::Paid),
        told::PayoutUndone::TYPE => change!(PayoutUndone, State::Approved),
        _ => return Ok(None),
    };
    Ok(Some(PayableCommission { partner_id, currency, state, kept_minor }))
}
