//! Writes campaigns: the row, and with it what is published about it; and the checks that several commands share.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, CampaignReference};
use events::partners::PartnerProfile;
use kernel::{Amount, CampaignId, Currency, Fault, Key, Money, PartnerId, Reference, Result};
use platform::{OnDuplicate, Reader, Tx, Value, published};

use crate::problems;
use crate::views::{self, CampaignView};

/// External references of one campaign at most.
const MOST_REFERENCES: usize = 20;
/// Tags of one campaign at most.
const MOST_TAGS: usize = 50;
/// The size of the metadata at most, as JSON, in bytes.
const MOST_METADATA_BYTES: usize = 16_384;

/// The campaign, for a change in this transaction. Fault: `campaign_not_found`.
pub(crate) fn load(tx: &mut Tx<'_>, id: CampaignId) -> Result<CampaignView> {
    views::one(tx, id)
}

/// Writes new campaigns, with a number of statements that does not depend on theirs.
pub(crate) fn insert(tx: &mut Tx<'_>, campaigns: &[CampaignView]) -> Result<()> {
    let documents: Vec<String> = campaigns.iter().map(document).collect::<Result<_>>()?;
    let rows: Vec<[Value<'_>; 5]> = campaigns
        .iter()
        .zip(&documents)
        .map(|(campaign, document)| {
            [
                (&campaign.id).into(),
                campaign.version.into(),
                campaign.state.as_str().into(),
                campaign.created_at.into(),
                document.into(),
            ]
        })
        .collect();
    tx.insert("campaign", ["id", "version", "state", "created_at", "doc"], &rows, OnDuplicate::Fail)?;
    publish(tx, campaigns)
}

/// Writes a changed campaign as its next version.
pub(crate) fn save(tx: &mut Tx<'_>, campaign: &mut CampaignView) -> Result<()> {
    campaign.version += 1;
    campaign.updated_at = tx.now();
    let document = document(campaign)?;
    let row = [campaign.version.into(), campaign.state.as_str().into(), (&document).into(), (&campaign.id).into()];
    tx.update_many("campaign", &["version", "state", "doc"], &["id"], &[row])?;
    publish(tx, std::slice::from_ref(campaign))
}

fn document(campaign: &CampaignView) -> Result<String> {
    serde_json::to_string(campaign).map_err(Fault::internal)
}

fn publish(tx: &mut Tx<'_>, campaigns: &[CampaignView]) -> Result<()> {
    let profiles: Vec<CampaignProfile> = campaigns.iter().map(CampaignView::profile).collect();
    let documents: Vec<(&[u8], &CampaignProfile)> =
        campaigns.iter().zip(&profiles).map(|(campaign, profile)| (&campaign.id.as_bytes()[..], profile)).collect();
    published::put(tx, &documents)?;
    let references = references(campaigns);
    let documents: Vec<(&[u8], &CampaignReference)> =
        references.iter().map(|(text, owner)| (text.as_bytes(), owner)).collect();
    published::put(tx, &documents)
}

/// Which campaign each external reference of these names, by its text.
pub(crate) fn references(campaigns: &[CampaignView]) -> BTreeMap<String, CampaignReference> {
    let of_one = |campaign: &CampaignView| {
        let owner = CampaignReference { campaign_id: campaign.id };
        campaign.external_refs.iter().map(|reference| (reference.to_string(), owner.clone())).collect::<Vec<_>>()
    };
    campaigns.iter().flat_map(of_one).collect()
}

fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Fault {
    Fault::at(&kernel::problems::INVALID, pointer, detail)
}

/// Checks the references that campaign `id` is to have. Faults: `invalid`, `campaign_reference_taken`.
pub(crate) fn check_references(reader: &Reader<'_>, id: CampaignId, references: &[Reference]) -> Result<()> {
    if references.len() > MOST_REFERENCES {
        return Err(invalid("/external_refs", format!("at most {MOST_REFERENCES} are possible")));
    }
    // A fact names a campaign as `system:id`, which must have one reading.
    if let Some(index) = references.iter().position(|reference| reference.system.as_str().contains(':')) {
        return Err(invalid(format!("/external_refs/{index}/system"), "a system's name must not contain a colon"));
    }
    let texts: Vec<String> = references.iter().map(Reference::to_string).collect();
    if texts.iter().collect::<BTreeSet<_>>().len() < texts.len() {
        return Err(invalid("/external_refs", "an external reference stands here twice"));
    }
    let keys: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let owners = published::get::<CampaignReference>(reader, &keys)?;
    let taken = texts.iter().position(|text| owners.get(text.as_bytes()).is_some_and(|owner| owner.campaign_id != id));
    match taken {
        Some(index) => {
            let detail = format!("{} names another campaign", texts[index]);
            Err(Fault::at(&problems::CAMPAIGN_REFERENCE_TAKEN, format!("/external_refs/{index}"), detail))
        }
        None => Ok(()),
    }
}

/// Checks the size of the metadata. Fault: `invalid`.
pub(crate) fn check_metadata(metadata: &serde_json::Map<String, serde_json::Value>) -> Result<()> {
    let size = serde_json::to_string(metadata).map_err(Fault::internal)?.len();
    if size > MOST_METADATA_BYTES {
        let detail = format!("{size} bytes as JSON; at most {MOST_METADATA_BYTES} are possible");
        return Err(invalid("/metadata", detail));
    }
    Ok(())
}

/// Checks the number of tags. Fault: `invalid`.
pub(crate) fn check_tags(tags: &[Key]) -> Result<()> {
    if tags.len() > MOST_TAGS {
        return Err(invalid("/tags", format!("at most {MOST_TAGS} are possible")));
    }
    Ok(())
}

/// Checks how touches are matched. Fault: `invalid`.
pub(crate) fn check_attribution(policy: &events::campaigns::AttributionPolicy) -> Result<()> {
    if !(1..=3_650).contains(&policy.window_days) {
        return Err(invalid("/attribution/window_days", "1 to 3650 days are possible"));
    }
    Ok(())
}

/// Checks that the campaign ends after it starts. Fault: `invalid`.
pub(crate) fn check_dates(campaign: &CampaignView) -> Result<()> {
    if campaign.ends_at.is_some_and(|ends_at| ends_at <= campaign.starts_at) {
        return Err(invalid("/ends_at", format!("an end after the start, {}, is needed", campaign.starts_at)));
    }
    Ok(())
}

/// The budget, in the campaign's currency. Fault: `currency_mismatch`.
pub(crate) fn check_budget(budget: Option<Amount>, currency: Currency) -> Result<Option<Money>> {
    match budget {
        Some(budget) if budget.currency() != currency => {
            let detail = format!("the campaign's currency is {currency}");
            Err(Fault::at(&kernel::problems::CURRENCY_MISMATCH, "/budget/currency", detail))
        }
        budget => Ok(budget.map(Money::from)),
    }
}

/// Checks that there is such a partner, whatever its state. Fault: `enrolled_partner_unknown`.
pub(crate) fn check_partner(reader: &Reader<'_>, id: PartnerId, pointer: &str) -> Result<()> {
    match published::get_one::<PartnerProfile>(reader, id.as_bytes())? {
        Some(_) => Ok(()),
        None => Err(Fault::at(&problems::ENROLLED_PARTNER_UNKNOWN, pointer, format!("there is no partner {id}"))),
    }
}
