//! The plain changes of a campaign's state.

use events::campaigns::{Activated, Cancelled, Completed, Paused, Resumed};
use kernel::{CampaignId, Fault, NewEvent, Reason, Result};
use platform::Tx;

use crate::model::life::CampaignAction;
use crate::problems;
use crate::store;
use crate::views::CampaignView;

/// Activates, pauses, resumes, completes or cancels a campaign, from now on. Asking for what is so already changes and
/// tells nothing. Faults: `campaign_not_found`, `illegal_transition`, `terms_missing`.
pub fn change(tx: &mut Tx<'_>, id: CampaignId, action: CampaignAction, reason: Option<Reason>) -> Result<CampaignView> {
    let mut campaign = store::load(tx, id)?;
    let Some(life) = campaign.life().act(action, tx.now())? else { return Ok(campaign) };
    if action == CampaignAction::Activate && campaign.terms.is_empty() {
        return Err(Fault::new(&problems::TERMS_MISSING, "the campaign has no terms; publish terms first"));
    }
    campaign.state = life.state;
    campaign.pauses = life.pauses;
    campaign.activated_at = life.activated_at;
    campaign.ended_at = life.ended_at;
    store::save(tx, &mut campaign)?;
    let event = match action {
        CampaignAction::Activate => NewEvent::of(&Activated { campaign_id: id, reason }),
        CampaignAction::Pause => NewEvent::of(&Paused { campaign_id: id, reason }),
        CampaignAction::Resume => NewEvent::of(&Resumed { campaign_id: id, reason }),
        CampaignAction::Complete => NewEvent::of(&Completed { campaign_id: id, reason }),
        CampaignAction::Cancel => NewEvent::of(&Cancelled { campaign_id: id, reason }),
    };
    tx.publish(&[event])?;
    Ok(campaign)
}

#[cfg(test)]
mod tests {
    use events::campaigns::{CampaignState as S, Pause};
    use kernel::Move;

    use super::*;
    use crate::testing::{World, creation, day, world};
    use crate::{Create, LIFECYCLE};
    use CampaignAction as A;

    /// The actions that lead to a state.
    fn way_to(state: S) -> &'static [A] {
        match state {
            S::Draft => &[],
            S::Active => &[A::Activate],
            S::Paused => &[A::Activate, A::Pause],
            S::Completed => &[A::Activate, A::Complete],
            S::Cancelled => &[A::Activate, A::Cancel],
        }
    }

    fn campaign_in(world: &World, state: S) -> CampaignView {
        let campaign = world.create(&creation()).unwrap();
        way_to(state).iter().fold(campaign, |campaign, &action| world.change(campaign.id, action).unwrap())
    }

    #[test]
    fn every_action_from_every_state() {
        let world = world();
        for &state in S::ALL {
            for &action in A::ALL {
                let before = campaign_in(&world, state);
                assert_eq!(before.state, state);
                let head = world.db.head();
                let answer = world.change(before.id, action);
                match LIFECYCLE.act(state, action) {
                    Ok(Move::To(next)) => {
                        let after = answer.unwrap();
                        assert_eq!((after.state, after.version), (next, before.version + 1));
                        assert_eq!(world.profile(before.id), Some(after.profile()));
                        assert_eq!(world.db.head(), head + 1, "{state} {action}");
                    }
                    Ok(Move::Already) => {
                        assert_eq!(answer.unwrap(), before);
                        assert_eq!(world.db.head(), head, "{state} {action}");
                    }
                    Err(expected) => {
                        assert_eq!(answer.unwrap_err().detail(), expected.detail());
                        assert_eq!(world.profile(before.id), Some(before.profile()));
                        assert_eq!(world.db.head(), head, "{state} {action}");
                    }
                }
            }
        }
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn changes_count_from_their_instant_and_are_told_with_their_reason() {
        let world = world();
        let id = world.draft();
        let told_by_creation = world.db.head();
        for (number, action) in [(11, A::Activate), (12, A::Pause), (13, A::Resume), (14, A::Pause), (15, A::Complete)]
        {
            world.set_day(number);
            world.write(|tx| change(tx, id, action, Some(Reason::new("because").unwrap()))).unwrap();
        }
        let names = ["activated", "paused", "resumed", "paused", "completed"];
        assert_eq!(world.types_after(told_by_creation), names.map(|name| format!("campaigns.{name}.v1")));
        let paused: Paused = world.events_after(told_by_creation + 1)[0].decode().unwrap();
        assert_eq!(paused, Paused { campaign_id: id, reason: Some(Reason::new("because").unwrap()) });
        let profile = world.profile(id).unwrap();
        let span = |from, to| Pause { from: day(from), to: Some(day(to)) };
        assert_eq!((profile.ends_at, profile.pauses.as_slice()), (Some(day(15)), &[span(12, 13), span(14, 15)][..]));
        // It counts from its start, not from its activation.
        for (number, refusal) in [
            (0, None),
            (11, None),
            (12, Some("campaign_paused")),
            (13, None),
            (14, Some("campaign_paused")),
            (15, Some("outside_campaign")),
        ] {
            assert_eq!(profile.refusal_at(day(number)), refusal, "day {number}");
        }
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn completion_never_moves_a_planned_end_to_later() {
        let world = world();
        let planned = [11, 20].map(|number| {
            let id = world.create(&Create { ends_at: Some(day(number)), ..creation() }).unwrap().id;
            world.change(id, A::Activate).unwrap().id
        });
        world.set_day(12);
        let ends = planned.map(|id| {
            assert_eq!(world.change(id, A::Complete).unwrap().ended_at, Some(day(12)));
            world.profile(id).unwrap().ends_at
        });
        assert_eq!(ends, [Some(day(11)), Some(day(12))]);
    }

    #[test]
    fn a_draft_that_is_cancelled_takes_no_conversion() {
        let world = world();
        let id = world.draft();
        world.change(id, A::Cancel).unwrap();
        let profile = world.profile(id).unwrap();
        for number in [0, 5, 10, 20] {
            assert_eq!(profile.refusal_at(day(number)), Some("outside_campaign"), "day {number}");
        }
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn nobody_can_change_a_campaign_that_is_not_there() {
        let fault = world().change(CampaignId::from_bytes([9; 16]), A::Activate).unwrap_err();
        assert_eq!(fault.code(), "campaign_not_found");
    }
}
