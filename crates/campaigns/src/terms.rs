//! The next version of a campaign's terms is published.

use events::campaigns::{Terms, TermsPublished, TermsVersion};
use kernel::{CampaignId, Fault, NewEvent, Result, Timestamp};
use platform::Tx;
use serde::Deserialize;

use crate::problems;
use crate::store;
use crate::views::CampaignView;

/// Publishes the next version of a campaign's terms. Versions are never edited, and commissions that exist keep the
/// version that they were computed with.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishTerms {
    /// In force for conversions that occur from here on. Not before now, unless the campaign is a draft.
    pub valid_from: Timestamp,
    /// The terms.
    pub terms: Terms,
}

impl PublishTerms {
    /// Adds the version and tells `campaigns.terms_published.v1`. Faults: `campaign_not_found`, `campaign_over`,
    /// `invalid`, `terms_backdated`.
    pub fn run(&self, tx: &mut Tx<'_>, id: CampaignId) -> Result<CampaignView> {
        let mut campaign = store::load(tx, id)?;
        campaign.must_not_be_over()?;
        self.terms.check("/terms")?;
        let now = tx.now();
        if self.valid_from < now && !campaign.is_draft() {
            let detail = format!("{} has passed; the earliest is now, {now}", self.valid_from);
            return Err(Fault::at(&problems::TERMS_BACKDATED, "/valid_from", detail));
        }
        let version = TermsVersion {
            version: campaign.terms.last().map_or(1, |last| last.version + 1),
            valid_from: self.valid_from,
            published_at: now,
            terms: self.terms.clone(),
        };
        campaign.terms.push(version.clone());
        store::save(tx, &mut campaign)?;
        tx.publish(&[NewEvent::of(&told(id, version))])?;
        Ok(campaign)
    }
}

pub(crate) fn told(campaign_id: CampaignId, version: TermsVersion) -> TermsPublished {
    TermsPublished { campaign_id, version: version.version, valid_from: version.valid_from, terms: version.terms }
}
