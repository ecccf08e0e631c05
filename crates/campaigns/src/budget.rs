//! A campaign's budget is set, changed or removed.

use events::campaigns::BudgetChanged;
use kernel::{Amount, CampaignId, NewEvent, Result};
use platform::Tx;
use serde::Deserialize;

use crate::store;
use crate::views::CampaignView;

/// Sets, changes or removes a campaign's budget. It counts for commissions from now on; what has been accrued or
/// refused stays so.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeBudget {
    /// The whole budget, in the campaign's currency; null: no limit any more.
    // Named on purpose: without it an empty body would remove the budget.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(required)]
    pub budget: Option<Amount>,
}

impl ChangeBudget {
    /// Writes the budget and tells `campaigns.budget_changed.v1`, if it is another one. Faults: `campaign_not_found`,
    /// `currency_mismatch`.
    pub fn run(&self, tx: &mut Tx<'_>, id: CampaignId) -> Result<CampaignView> {
        let mut campaign = store::load(tx, id)?;
        let budget = store::check_budget(self.budget, campaign.currency)?;
        if budget == campaign.budget {
            return Ok(campaign);
        }
        campaign.budget = budget;
        store::save(tx, &mut campaign)?;
        tx.publish(&[NewEvent::of(&BudgetChanged { campaign_id: id, budget })])?;
        Ok(campaign)
    }
}
