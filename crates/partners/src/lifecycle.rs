//! The plain changes of a partner's state.

use events::partners::{Activated, Reinstated, Rejected, Suspended, Terminated};
use kernel::{NewEvent, PartnerId, Reason, Result};
use platform::Tx;

use crate::model::life::{self, PartnerAction};
use crate::store;
use crate::views::PartnerView;

/// Activates, rejects, suspends, reinstates or terminates a partner, from now on; a first activation reaches back to
/// the start of every campaign. Asking for what is so already changes and tells nothing. Faults: `partner_not_found`,
/// `illegal_transition`.
pub fn change(tx: &mut Tx<'_>, id: PartnerId, action: PartnerAction, reason: Option<Reason>) -> Result<PartnerView> {
    let mut partner = store::load(tx, id)?;
    let Some(profile) = life::act(&partner.profile(), action, tx.now())? else { return Ok(partner) };
    (partner.state, partner.inactive) = (profile.state, profile.inactive);
    store::save(tx, &mut partner)?;
    let event = match action {
        PartnerAction::Activate => NewEvent::of(&Activated { partner_id: id, reason }),
        PartnerAction::Reject => NewEvent::of(&Rejected { partner_id: id, reason }),
        PartnerAction::Suspend => NewEvent::of(&Suspended { partner_id: id, reason }),
        PartnerAction::Reinstate => NewEvent::of(&Reinstated { partner_id: id, reason }),
        PartnerAction::Terminate => NewEvent::of(&Terminated { partner_id: id, reason }),
    };
    tx.publish(&[event])?;
    Ok(partner)
}

#[cfg(test)]
mod tests {
    use events::partners::{Inactive, PartnerState as S};
    use kernel::Move;

    use super::*;
    use crate::LIFECYCLE;
    use crate::testing::{World, application, day, world};
    use PartnerAction as A;

    /// The actions that lead to a state.
    fn way_to(state: S) -> &'static [A] {
        match state {
            S::Applied => &[],
            S::Active => &[A::Activate],
            S::Rejected => &[A::Reject],
            S::Suspended => &[A::Activate, A::Suspend],
            S::Terminated => &[A::Activate, A::Terminate],
        }
    }

    fn partner_in(world: &World, state: S) -> PartnerView {
        let partner = world.apply(&application("A")).unwrap();
        way_to(state).iter().fold(partner, |partner, &action| world.change(partner.id, action).unwrap())
    }

    #[test]
    fn every_action_from_every_state() {
        let world = world();
        for &state in S::ALL {
            for &action in A::ALL {
                let before = partner_in(&world, state);
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
        let id = world.apply(&application("A")).unwrap().id;
        for (number, action) in
            [(1, A::Activate), (2, A::Suspend), (3, A::Reinstate), (4, A::Suspend), (5, A::Terminate)]
        {
            world.set_day(number);
            world.write(|tx| change(tx, id, action, Some(Reason::new("because").unwrap()))).unwrap();
        }
        let told = world.types_after(1);
        let names = ["activated", "suspended", "reinstated", "suspended", "terminated"];
        assert_eq!(told, names.map(|name| format!("partners.{name}.v1")));
        let suspended: Suspended = world.events_after(2)[0].decode().unwrap();
        assert_eq!(suspended, Suspended { partner_id: id, reason: Some(Reason::new("because").unwrap()) });
        let profile = world.profile(id).unwrap();
        let spans = [Inactive { from: day(2), to: Some(day(3)) }, Inactive { from: day(4), to: None }];
        assert_eq!(profile.inactive, spans);
        for (number, active) in [(0, true), (2, false), (3, true), (4, false), (5, false), (9, false)] {
            assert_eq!(profile.active_at(day(number)), active, "day {number}");
        }
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn nobody_can_change_a_partner_that_is_not_there() {
        let fault = world().change(PartnerId::from_bytes([9; 16]), A::Activate).unwrap_err();
        assert_eq!(fault.code(), "partner_not_found");
    }
}
