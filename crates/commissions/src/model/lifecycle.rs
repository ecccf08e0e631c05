//! The life of a commission (rules section 2): what people may do, what payouts and late facts do, and the state that a
//! history of events ends in.

use events::commissions::{self as told, CommissionState as State};
use kernel::{Event, Lifecycle};

kernel::names! {
    /// What a person can do with a commission.
    pub enum CommissionAction {
        /// Make it payable.
        Approve = "approve",
        /// Refuse it: nothing is owed.
        Reject = "reject",
        /// Stop it for now.
        Hold = "hold",
        /// Let a held one go on.
        Release = "release",
    }
}

/// What a person can do in which state.
pub(crate) const LIFECYCLE: Lifecycle<State, CommissionAction> = Lifecycle {
    aggregate: "commission",
    rows: &[
        (State::Pending, CommissionAction::Approve, State::Approved),
        (State::Pending, CommissionAction::Reject, State::Rejected),
        (State::Pending, CommissionAction::Hold, State::Held),
        (State::Held, CommissionAction::Release, State::Pending),
        (State::Held, CommissionAction::Reject, State::Rejected),
    ],
};

/// What late facts and payouts do.
const BY_EVENTS: &[(State, State)] = &[
    (State::Pending, State::Superseded),
    (State::Held, State::Superseded),
    (State::Approved, State::InPayout),
    (State::InPayout, State::Paid),
    (State::InPayout, State::Approved),
    (State::Paid, State::Approved),
];

/// Whether a commission may go from `from` to `to` in one step; it begins as pending, or as rejected when the budget
/// is exhausted.
pub(crate) fn is_legal(from: Option<State>, to: State) -> bool {
    match from {
        None => matches!(to, State::Pending | State::Rejected),
        Some(from) => LIFECYCLE.allows(from, to) || BY_EVENTS.contains(&(from, to)),
    }
}

/// The state after an event of type `event_type`; none when the event leaves it as it is.
pub(crate) fn after(event_type: &str) -> Option<State> {
    Some(match event_type {
        told::Accrued::TYPE | told::Released::TYPE => State::Pending,
        told::Held::TYPE => State::Held,
        told::Approved::TYPE | told::PayoutUndone::TYPE => State::Approved,
        told::PayoutStarted::TYPE => State::InPayout,
        told::PaidOut::TYPE => State::Paid,
        told::Rejected::TYPE => State::Rejected,
        told::Superseded::TYPE => State::Superseded,
        _ => return None,
    })
}

/// Whether something is or was earned by it that has not been taken away as a whole.
pub(crate) const fn is_live(state: State) -> bool {
    !matches!(state, State::Rejected | State::Superseded)
}

/// Whether it was approved: late facts do not change it any more.
pub(crate) const fn is_frozen(state: State) -> bool {
    matches!(state, State::Approved | State::InPayout | State::Paid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_of_the_catalogue_leads_somewhere_or_stays() {
        let stays: Vec<&str> = events::commissions::catalogue()
            .iter()
            .map(|descriptor| descriptor.event_type)
            .filter(|event_type| after(event_type).is_none())
            .collect();
        assert_eq!(stays, [told::Reversed::TYPE, told::Queued::TYPE, told::LateFactNoted::TYPE]);
    }

    #[test]
    fn nothing_leaves_the_terminal_states() {
        for to in State::ALL {
            assert!(!is_legal(Some(State::Rejected), *to) && !is_legal(Some(State::Superseded), *to));
            assert_eq!(is_legal(None, *to), matches!(to, State::Pending | State::Rejected));
        }
        assert!(
            !is_legal(Some(State::Approved), State::Rejected) && !is_legal(Some(State::Approved), State::Superseded)
        );
    }
}
