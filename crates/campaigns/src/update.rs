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

#[cfg(test)]
mod tests {
    use events::campaigns::AttributionModel;

    use super::*;
    use crate::testing::{creation, day, label, reference, world};
    use crate::{CampaignAction, Create};

    fn ends_at(number: u32) -> String {
        format!(r#"{{"ends_at": "{}"}}"#, day(number))
    }

    #[test]
    fn what_is_absent_stays_null_removes_and_nothing_changed_is_not_told() {
        let world = world();
        let before = world.create(&Create { ends_at: Some(day(90)), ..creation() }).unwrap();
        world.set_day(11);
        assert_eq!(world.update(before.id, &ends_at(90)).unwrap(), before);
        assert_eq!(world.update(before.id, r#"{"name": "Summer", "tags": []}"#).unwrap(), before);
        assert_eq!(world.db.head(), 2);
        let after = world.update(before.id, r#"{"name": "Winter", "tags": ["w"], "metadata": {"a": 1}}"#).unwrap();
        assert_eq!((&after.name, after.ends_at, after.version), (&label("Winter"), Some(day(90)), 2));
        assert_eq!((after.created_at, after.updated_at), (day(10), day(11)));
        let after = world.update(before.id, r#"{"ends_at": null}"#).unwrap();
        assert_eq!((after.ends_at, world.profile(before.id).unwrap().ends_at), (None, None));
        assert_eq!(world.types_after(2), ["campaigns.updated.v1"; 2]);
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    /// Whoever has been decided by an end must be decided so again.
    #[test]
    fn only_an_end_that_lies_ahead_moves_unless_it_is_a_draft() {
        let world = world();
        let id = world.draft();
        assert_eq!(world.update(id, &ends_at(0)).unwrap_err().code(), "invalid", "not after the start");
        assert_eq!(world.update(id, &ends_at(5)).unwrap().ends_at, Some(day(5)), "a draft");
        assert_eq!(world.update(id, &ends_at(20)).unwrap().ends_at, Some(day(20)));
        world.change(id, CampaignAction::Activate).unwrap();
        let fault = world.update(id, &ends_at(9)).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("end_backdated", "/ends_at"));
        world.update(id, &ends_at(30)).unwrap();
        world.update(id, &ends_at(10)).unwrap();
        world.set_day(11);
        assert_eq!(world.update(id, &ends_at(30)).unwrap_err().code(), "end_backdated", "it is over");
        assert_eq!(world.update(id, r#"{"ends_at": null}"#).unwrap_err().code(), "end_backdated");

        let completed = world.active();
        world.change(completed, CampaignAction::Complete).unwrap();
        world.set_day(12);
        assert_eq!(world.update(completed, &ends_at(30)).unwrap_err().code(), "end_backdated");
        world.update(completed, r#"{"name": "Over"}"#).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn attribution_is_settled_with_the_activation() {
        let world = world();
        let id = world.draft();
        let first_touch = r#"{"attribution": {"model": "first_touch", "window_days": 7}}"#;
        let policy = AttributionPolicy { model: AttributionModel::FirstTouch, window_days: 7 };
        world.update(id, first_touch).unwrap();
        assert_eq!(world.profile(id).unwrap().attribution, policy);
        assert_eq!(world.update(id, r#"{"attribution": {"window_days": 0}}"#).unwrap_err().code(), "invalid");
        world.change(id, CampaignAction::Activate).unwrap();
        let fault = world.update(id, r#"{"attribution": {"window_days": 8}}"#).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("campaign_not_draft", "/attribution"));
        world.update(id, first_touch).unwrap();
        assert_eq!(world.profile(id).unwrap().attribution, policy);
    }

    #[test]
    fn references_are_only_added_to() {
        let world = world();
        let first = world.create(&Create { external_refs: vec![reference("a", "1")], ..creation() }).unwrap().id;
        world.create(&Create { external_refs: vec![reference("a", "2")], ..creation() }).unwrap();
        let taken = r#"{"external_refs": [{"system": "a", "id": "1"}, {"system": "a", "id": "2"}]}"#;
        assert_eq!(world.update(first, taken).unwrap_err().code(), "campaign_reference_taken");
        let fault = world.update(first, r#"{"external_refs": []}"#).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", "/external_refs"));
        let more = r#"{"external_refs": [{"system": "a", "id": "1"}, {"system": "b", "id": "1"}]}"#;
        let after = world.update(first, more).unwrap();
        assert_eq!((world.named("a:1"), world.named("b:1")), (Some(first), Some(first)));
        let told: Updated = world.events_after(4)[0].decode().unwrap();
        assert_eq!(told.external_refs, after.external_refs);
        let unknown = CampaignId::from_bytes([9; 16]);
        assert_eq!(world.update(unknown, "{}").unwrap_err().code(), "campaign_not_found");
        assert_eq!(world.differences(), Vec::<String>::new());
    }
}
