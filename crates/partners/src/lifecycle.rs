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
