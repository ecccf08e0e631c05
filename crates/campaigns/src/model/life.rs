//! A campaign's life, the spans in which it stands still, and its end. The same function runs the commands and replays
//! the history for `verify`. It must not know where a campaign is stored.

use events::campaigns::{CampaignState as S, Pause};
use kernel::{Lifecycle, Move, Result, Timestamp};

kernel::names! {
    /// What can be done with a campaign.
    pub enum CampaignAction {
        /// Let a draft run.
        Activate = "activate",
        /// Let it stand still for now.
        Pause = "pause",
        /// Let it run again.
        Resume = "resume",
        /// End it as planned.
        Complete = "complete",
        /// End it early, or give up a draft.
        Cancel = "cancel",
    }
}
use CampaignAction as A;

/// Rules section 2.
pub const LIFECYCLE: Lifecycle<S, A> = Lifecycle {
    aggregate: "campaign",
    rows: &[
        (S::Draft, A::Activate, S::Active),
        (S::Draft, A::Cancel, S::Cancelled),
        (S::Active, A::Pause, S::Paused),
        (S::Paused, A::Resume, S::Active),
        (S::Active, A::Complete, S::Completed),
        (S::Paused, A::Complete, S::Completed),
        (S::Active, A::Cancel, S::Cancelled),
        (S::Paused, A::Cancel, S::Cancelled),
    ],
};

/// The part of a campaign that its life decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) state: S,
    /// Spans in which it stands still: `from` included, `to` excluded.
    pub(crate) pauses: Vec<Pause>,
    /// When it was completed or cancelled.
    pub(crate) ended_at: Option<Timestamp>,
    /// When it first ran.
    pub(crate) activated_at: Option<Timestamp>,
}

/// A campaign that was just created.
pub(crate) const DRAFT: Life = Life { state: S::Draft, pauses: Vec::new(), ended_at: None, activated_at: None };

impl Life {
    /// What `action` at the instant `at` makes of the campaign; none when it is so already. Pausing opens a span that
    /// includes `at`, resuming or ending closes it before `at`. Fault: `illegal_transition`.
    pub(crate) fn act(&self, action: A, at: Timestamp) -> Result<Option<Self>> {
        let Move::To(state) = LIFECYCLE.act(self.state, action)? else { return Ok(None) };
        let mut next = Self { state, ..self.clone() };
        if let Some(pause) = next.pauses.last_mut().filter(|pause| pause.to.is_none()) {
            pause.to = Some(at);
        }
        match state {
            S::Paused => next.pauses.push(Pause { from: at, to: None }),
            S::Active => next.activated_at = next.activated_at.or(Some(at)),
            S::Completed | S::Cancelled => next.ended_at = Some(at),
            S::Draft => {}
        }
        Ok(Some(next))
    }

    /// Conversions count before this: the planned end, or that of completion or cancellation if it is earlier. A
    /// campaign that is cancelled without ever having run ends where it starts: no conversion counts.
    pub(crate) fn end(&self, starts_at: Timestamp, ends_at: Option<Timestamp>) -> Option<Timestamp> {
        let ended_at = self.ended_at.map(|at| if self.activated_at.is_some() { at } else { at.min(starts_at) });
        ends_at.into_iter().chain(ended_at).min()
    }
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
        // activate, pause, resume, complete, cancel
        assert_eq!(answers(S::Draft), ["active", "refused", "refused", "refused", "cancelled"]);
        assert_eq!(answers(S::Active), ["already", "paused", "already", "completed", "cancelled"]);
        assert_eq!(answers(S::Paused), ["refused", "already", "active", "completed", "cancelled"]);
        assert_eq!(answers(S::Completed), ["refused", "refused", "refused", "already", "refused"]);
        assert_eq!(answers(S::Cancelled), ["refused", "refused", "refused", "refused", "already"]);
    }

    fn live(actions: &[(A, i64)]) -> Life {
        actions.iter().fold(DRAFT, |life, &(action, second)| life.act(action, at(second)).unwrap().unwrap())
    }

    #[test]
    fn pauses_are_half_open_and_end_with_the_campaign() {
        let life = live(&[(A::Activate, 10), (A::Pause, 20), (A::Resume, 30), (A::Pause, 40), (A::Complete, 50)]);
        let span = |from, to| Pause { from: at(from), to: Some(at(to)) };
        assert_eq!(life.pauses, [span(20, 30), span(40, 50)]);
        assert_eq!(live(&[(A::Activate, 10), (A::Pause, 20)]).pauses, [Pause { from: at(20), to: None }]);
        assert!(life.act(A::Complete, at(60)).unwrap().is_none());
    }

    #[test]
    fn the_end_is_the_earlier_of_the_planned_and_the_real_one() {
        let over = live(&[(A::Activate, 10), (A::Complete, 50)]);
        assert_eq!(over.end(at(0), None), Some(at(50)));
        assert_eq!(over.end(at(0), Some(at(40))), Some(at(40)));
        assert_eq!(over.end(at(0), Some(at(60))), Some(at(50)));
        assert_eq!(DRAFT.end(at(0), None), None);
        let never_ran = live(&[(A::Cancel, 50)]);
        assert_eq!(never_ran.end(at(0), Some(at(60))), Some(at(0)));
        assert_eq!(never_ran.end(at(70), None), Some(at(50)));
    }
}
