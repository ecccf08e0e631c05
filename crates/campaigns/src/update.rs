//! A campaign's data change.

use events::campaigns::{AttributionPolicy, Updated};
use kernel::{CampaignId, Fault, Key, Label, NewEvent, Reference, Result, Timestamp};
use platform::Tx;
use serde::{Deserialize, Deserializer};

use crate::problems;
use crate::store;
use crate::views::CampaignView;

/// Changes a campaign's data. What is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Its name, for people. A provisional campaign that is given a name is no longer provisional.
    pub name: Option<Label>,
    /// The planned end; null removes it. Unless the campaign is a draft, neither the old nor the new end may have
    /// passed, because conversions have been decided by it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Timestamp>)]
    pub ends_at: Option<Option<Timestamp>>,
    /// How touches are matched with conversions; only while the campaign is a draft.
    pub attribution: Option<AttributionPolicy>,
    /// All tags after the change.
    #[schema(max_items = 50)]
    pub tags: Option<Vec<Key>>,
    /// All external references after the change. They are only added to: facts may have named the campaign by those
    /// that are there.
    #[schema(max_items = 20)]
    pub external_refs: Option<Vec<Reference>>,
    /// All metadata after the change; at most 16 KiB as JSON.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Tells a null from what is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Update {
    /// Writes the changes and tells `campaigns.updated.v1`, if there are any. Faults: `campaign_not_found`, `invalid`,
    /// `end_backdated`, `campaign_not_draft`, `campaign_reference_taken`.
    pub fn run(&self, tx: &mut Tx<'_>, id: CampaignId) -> Result<CampaignView> {
        let before = store::load(tx, id)?;
        let mut campaign = before.clone();
        if let Some(name) = &self.name {
            campaign.name = name.clone();
            campaign.provisional = false;
        }
        if let Some(ends_at) = self.ends_at.filter(|ends_at| *ends_at != before.ends_at) {
            check_end(&before, ends_at, tx.now())?;
            campaign.ends_at = ends_at;
            store::check_dates(&campaign)?;
        }
        if let Some(policy) = self.attribution.filter(|policy| *policy != before.attribution) {
            store::check_attribution(&policy)?;
            if !before.is_draft() {
                let detail = format!("the campaign is {}; its attribution cannot change any more", before.state);
                return Err(Fault::at(&problems::CAMPAIGN_NOT_DRAFT, "/attribution", detail));
            }
            campaign.attribution = policy;
        }
        if let Some(tags) = &self.tags {
            store::check_tags(tags)?;
            campaign.tags.clone_from(tags);
        }
        if let Some(references) = &self.external_refs {
            store::check_references(tx, id, references)?;
            if let Some(missing) = before.external_refs.iter().find(|reference| !references.contains(reference)) {
                let detail = format!("{missing} is missing: external references are only added to");
                return Err(Fault::at(&kernel::problems::INVALID, "/external_refs", detail));
            }
            campaign.external_refs.clone_from(references);
        }
        if let Some(metadata) = &self.metadata {
            store::check_metadata(metadata)?;
            campaign.metadata.clone_from(metadata);
        }
        if campaign == before {
            return Ok(before);
        }
        store::save(tx, &mut campaign)?;
        let event = Updated { campaign_id: id, external_refs: campaign.external_refs.clone() };
        tx.publish(&[NewEvent::of(&event)])?;
        Ok(campaign)
    }
}

/// Conversions from before now have been decided by the end that stands, so only what lies ahead can change.
fn check_end(before: &CampaignView, ends_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    if before.is_draft() {
        return Ok(());
    }
    let passed = |end: Option<Timestamp>| end.filter(|end| *end < now);
    let refuse = |detail: String| Err(Fault::at(&problems::END_BACKDATED, "/ends_at", detail));
    if let Some(end) = passed(before.profile().ends_at) {
        return refuse(format!("the campaign ended at {end}"));
    }
    match passed(ends_at) {
        Some(end) => refuse(format!("{end} has passed; the earliest end is now, {now}")),
        None => Ok(()),
    }
}
