//! A partner's life, and the spans in which it may not earn. The same function runs the commands and replays the
//! history for `verify`. It must not know where a partner is stored.

use events::partners::{Inactive, PartnerProfile, PartnerState as S};
use kernel::{Lifecycle, Move, Result, Timestamp};

kernel::names! {
    /// What can be done with a partner.
    pub enum PartnerAction {
        /// Accept the application.
        Activate = "activate",
        /// Refuse the application.
        Reject = "reject",
        /// Stop it from earning for now.
        Suspend = "suspend",
        /// End the suspension.
        Reinstate = "reinstate",
        /// Let it leave.
        Terminate = "terminate",
    }
}
use PartnerAction as A;

/// Rules section 2.
pub const LIFECYCLE: Lifecycle<S, A> = Lifecycle {
    aggregate: "partner",
    rows: &[
        (S::Applied, A::Activate, S::Active),
        (S::Applied, A::Reject, S::Rejected),
        (S::Active, A::Suspend, S::Suspended),
        (S::Suspended, A::Reinstate, S::Active),
        (S::Active, A::Terminate, S::Terminated),
        (S::Suspended, A::Terminate, S::Terminated),
    ],
};

/// A partner that has just applied.
pub(crate) const APPLIED: PartnerProfile = PartnerProfile { state: S::Applied, inactive: Vec::new() };

/// What `action` at the instant `at` makes of the partner; none when it is so already. Suspending and terminating open
/// a span that includes `at`, reinstating ends it before `at`; who is terminated while suspended keeps the open span.
/// Fault: `illegal_transition`.
pub(crate) fn act(profile: &PartnerProfile, action: A, at: Timestamp) -> Result<Option<PartnerProfile>> {
    let Move::To(state) = LIFECYCLE.act(profile.state, action)? else { return Ok(None) };
    let mut inactive = profile.inactive.clone();
    let open = inactive.last_mut().filter(|span| span.to.is_none());
    match (state, open) {
        (S::Active, Some(span)) => span.to = Some(at),
        (S::Suspended | S::Terminated, None) => inactive.push(Inactive { from: at, to: None }),
        _ => {}
    }
    Ok(Some(PartnerProfile { state, inactive }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    /// Written out again by hand, so that a row that is changed by mistake is seen.
    #[test]
    fn every_action_from_every_state() {
        let answers = |state: S| -> Vec<&str> {
            let answer = |&action: &A| match LIFECYCLE.act(state, action) {
                Ok(Move::To(state)) => state.as_str(),
                Ok(Move::Already) => "already",
                Err(fault) => {
                    assert_eq!(fault.code(), "illegal_transition");
                    "refused"
                }
            };
            A::ALL.iter().map(answer).collect()
        };
        // activate, reject, suspend, reinstate, terminate
        assert_eq!(answers(S::Applied), ["active", "rejected", "refused", "refused", "refused"]);
        assert_eq!(answers(S::Active), ["already", "refused", "suspended", "already", "terminated"]);
        assert_eq!(answers(S::Rejected), ["refused", "already", "refused", "refused", "refused"]);
        assert_eq!(answers(S::Suspended), ["refused", "refused", "already", "active", "terminated"]);
        assert_eq!(answers(S::Terminated), ["refused", "refused", "refused", "refused", "already"]);
    }

    fn live(actions: &[(A, i64)]) -> PartnerProfile {
        actions.iter().fold(APPLIED, |profile, &(action, second)| act(&profile, action, at(second)).unwrap().unwrap())
    }

    #[test]
    fn spans_are_half_open_and_activation_reaches_back() {
        let partner = live(&[(A::Activate, 10), (A::Suspend, 20), (A::Reinstate, 30), (A::Terminate, 40)]);
        let spans = [Inactive { from: at(20), to: Some(at(30)) }, Inactive { from: at(40), to: None }];
        assert_eq!(partner.inactive, spans);
        for (second, active) in [(0, true), (19, true), (20, false), (29, false), (30, true), (39, true), (40, false)] {
            assert_eq!(partner.active_at(at(second)), active, "{second}");
        }
    }

    #[test]
    fn terminated_while_suspended_never_earns_again() {
        let partner = live(&[(A::Activate, 10), (A::Suspend, 20), (A::Terminate, 30)]);
        assert_eq!(partner.inactive, [Inactive { from: at(20), to: None }]);
        assert!(partner.active_at(at(19)) && !partner.active_at(at(20)) && !partner.active_at(at(1_000)));
    }

    #[test]
    fn applied_and_rejected_never_earn() {
        assert!(!APPLIED.active_at(at(0)));
        assert!(!live(&[(A::Reject, 10)]).active_at(at(0)));
        assert!(act(&live(&[(A::Activate, 10)]), A::Activate, at(20)).unwrap().is_none());
    }
}
