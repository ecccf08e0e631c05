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
