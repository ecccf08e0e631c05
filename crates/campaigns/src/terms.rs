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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CampaignAction;
    use crate::testing::{day, percent, world};

    #[test]
    fn versions_follow_each_other_and_are_never_edited() {
        let world = world();
        let id = world.draft();
        world.publish_terms(id, day(5), percent(600)).unwrap();
        world.change(id, CampaignAction::Activate).unwrap();
        world.set_day(20);
        let campaign = world.publish_terms(id, day(30), percent(700)).unwrap();
        let version = |version, valid_from, published_at, basis_points| TermsVersion {
            version,
            valid_from: day(valid_from),
            published_at: day(published_at),
            terms: percent(basis_points),
        };
        let expected = [version(1, 0, 10, 800), version(2, 5, 10, 600), version(3, 30, 20, 700)];
        assert_eq!(campaign.terms, expected);
        let profile = world.profile(id).unwrap();
        assert_eq!(profile.terms, expected);
        for (number, version) in [(0, 1), (4, 1), (5, 2), (29, 2), (30, 3), (99, 3)] {
            assert_eq!(profile.terms_at(day(number), day(20)).unwrap().version, version, "day {number}");
        }
        // What was not published yet does not count.
        assert_eq!(profile.terms_at(day(30), day(19)).unwrap().version, 2);
        let told: TermsPublished = world.events_after(world.db.head() - 1)[0].decode().unwrap();
        assert_eq!(told, super::told(id, version(3, 30, 20, 700)));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn backdated_terms_are_refused_unless_the_campaign_is_a_draft() {
        let world = world();
        let id = world.draft();
        world.publish_terms(id, day(1), percent(700)).unwrap();
        for action in [CampaignAction::Activate, CampaignAction::Pause] {
            world.change(id, action).unwrap();
            let head = world.db.head();
            let just_before = Timestamp::from_micros(day(10).as_micros() - 1);
            let fault = world.publish_terms(id, just_before, percent(600)).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("terms_backdated", "/valid_from"));
            assert_eq!(world.db.head(), head);
        }
        let campaign = world.publish_terms(id, day(10), percent(600)).unwrap();
        assert_eq!(campaign.terms.len(), 3, "now is early enough");
    }

    #[test]
    fn wrong_terms_and_terms_after_the_end_are_refused() {
        let world = world();
        let id = world.active();
        let negative = Terms { auto_approve_up_to_minor: Some(-1), ..percent(1) };
        let fault = world.publish_terms(id, day(20), negative).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", "/terms/auto_approve_up_to_minor"));
        world.change(id, CampaignAction::Cancel).unwrap();
        assert_eq!(world.publish_terms(id, day(20), percent(1)).unwrap_err().code(), "campaign_over");
        assert_eq!(world.profile(id).unwrap().terms.len(), 1);
    }
}
