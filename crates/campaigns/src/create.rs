//! A campaign is created, as a draft.

use events::campaigns::{AttributionPolicy, BudgetChanged, Created, Terms, TermsVersion};
use kernel::{Amount, Currency, Key, Label, NewEvent, PartnerId, Reference, Result, Timestamp};
use platform::Tx;
use serde::Deserialize;

use crate::model::life::DRAFT;
use crate::store;
use crate::terms;
use crate::views::CampaignView;

/// Creates a campaign, as a draft. Facts that name it wait until it is activated or cancelled.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name, for people.
    pub name: Label,
    /// What it is, in your own words.
    #[serde(default)]
    pub kind: Option<Key>,
    /// The currency of its conversions and commissions.
    pub currency: Currency,
    /// Conversions count from here on; may lie in the past.
    pub starts_at: Timestamp,
    /// Conversions count before this; absent: without a planned end.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// At most this much is committed in commissions; absent: no limit.
    #[serde(default)]
    pub budget: Option<Amount>,
    /// How touches are matched with conversions; absent: the last touch in 30 days.
    #[serde(default)]
    pub attribution: AttributionPolicy,
    /// What is earned: version 1, valid from `starts_at`.
    pub terms: Terms,
    /// The partner that runs it, if it is one.
    #[serde(default)]
    pub owner_partner_id: Option<PartnerId>,
    /// Words to find it by.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub tags: Vec<Key>,
    /// What other systems call it: each names one campaign, for ever. A system's name has no colon, because facts name
    /// a campaign as `system:id`.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub external_refs: Vec<Reference>,
    /// Whatever is to be kept with it; at most 16 KiB as JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Create {
    /// Writes the draft and tells `campaigns.created.v1`, `campaigns.terms_published.v1` and, with a budget,
    /// `campaigns.budget_changed.v1`. Faults: `invalid`, `currency_mismatch`, `enrolled_partner_unknown`,
    /// `campaign_reference_taken`.
    pub fn run(&self, tx: &mut Tx<'_>) -> Result<CampaignView> {
        self.terms.check("/terms")?;
        let first =
            TermsVersion { version: 1, valid_from: self.starts_at, published_at: tx.now(), terms: self.terms.clone() };
        let campaign = CampaignView {
            id: tx.new_id(),
            state: DRAFT.state,
            name: self.name.clone(),
            kind: self.kind.clone(),
            currency: self.currency,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            activated_at: DRAFT.activated_at,
            ended_at: DRAFT.ended_at,
            pauses: DRAFT.pauses,
            budget: store::check_budget(self.budget, self.currency)?,
            attribution: self.attribution,
            terms: vec![first.clone()],
            owner_partner_id: self.owner_partner_id,
            tags: self.tags.clone(),
            external_refs: self.external_refs.clone(),
            metadata: self.metadata.clone().unwrap_or_default(),
            provisional: false,
            created_at: tx.now(),
            updated_at: tx.now(),
            version: 1,
        };
        store::check_dates(&campaign)?;
        store::check_attribution(&campaign.attribution)?;
        store::check_tags(&campaign.tags)?;
        store::check_metadata(&campaign.metadata)?;
        store::check_references(tx, campaign.id, &campaign.external_refs)?;
        if let Some(owner) = campaign.owner_partner_id {
            store::check_partner(tx, owner, "/owner_partner_id")?;
        }
        store::insert(tx, std::slice::from_ref(&campaign))?;
        let mut told = vec![NewEvent::of(&created(&campaign)), NewEvent::of(&terms::told(campaign.id, first))];
        if campaign.budget.is_some() {
            told.push(NewEvent::of(&BudgetChanged { campaign_id: campaign.id, budget: campaign.budget }));
        }
        tx.publish(&told)?;
        Ok(campaign)
    }
}

pub(crate) fn created(campaign: &CampaignView) -> Created {
    Created {
        campaign_id: campaign.id,
        currency: campaign.currency,
        starts_at: campaign.starts_at,
        ends_at: campaign.ends_at,
        external_refs: campaign.external_refs.clone(),
    }
}
