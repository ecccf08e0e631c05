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

#[cfg(test)]
mod tests {
    use kernel::{Currency, Money};

    use super::*;
    use crate::CampaignAction;
    use crate::testing::{amount, world};

    #[test]
    fn a_budget_is_set_changed_and_removed_to_the_cent() {
        let world = world();
        let id = world.active();
        let head = world.db.head();
        let change = |budget| world.write(|tx| ChangeBudget { budget }.run(tx, id));
        assert_eq!(change(amount(100_001, "USD")).unwrap().budget, Some(Money::new(100_001, Currency::USD)));
        assert_eq!(world.profile(id).unwrap().budget_minor, Some(100_001));
        change(amount(100_001, "USD")).unwrap();
        assert_eq!(world.db.head(), head + 1, "the same budget is not told");
        change(amount(0, "USD")).unwrap();
        assert_eq!(world.profile(id).unwrap().budget_minor, Some(0));
        let fault = change(amount(5, "EUR")).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("currency_mismatch", "/budget/currency"));
        world.change(id, CampaignAction::Complete).unwrap();
        // Late facts still earn in a campaign that is over, so its budget still matters.
        assert_eq!(change(None).unwrap().budget, None);
        assert_eq!(world.profile(id).unwrap().budget_minor, None);
        let told: BudgetChanged = world.events_after(head + 3)[0].decode().unwrap();
        assert_eq!(told, BudgetChanged { campaign_id: id, budget: None });
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn a_budget_is_removed_only_by_saying_so() {
        assert!(serde_json::from_str::<ChangeBudget>("{}").is_err());
        assert!(serde_json::from_str::<ChangeBudget>(r#"{"budget": null}"#).unwrap().budget.is_none());
        assert!(
            serde_json::from_str::<ChangeBudget>(r#"{"budget": {"amount_minor": -1, "currency": "USD"}}"#).is_err()
        );
    }
}
