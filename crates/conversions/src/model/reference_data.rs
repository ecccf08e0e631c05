//! What other contexts publish about partners and campaigns, as far as a slice needs it.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{CampaignProfile, CampaignState, CodeOwner, Enrollments};
use events::partners::{PartnerProfile, PartnerState};
use kernel::{CampaignId, PartnerId, Timestamp};

use super::named::Named;

/// Partners, campaigns, enrolments, codes and references, by key. What is not here is not known.
#[derive(Debug, Default)]
pub(crate) struct ReferenceData {
    pub(crate) campaigns: BTreeMap<CampaignId, CampaignProfile>,
    pub(crate) partners: BTreeMap<PartnerId, PartnerProfile>,
    pub(crate) enrollments: BTreeMap<(CampaignId, PartnerId), Enrollments>,
    pub(crate) codes: BTreeMap<String, CodeOwner>,
    pub(crate) campaign_references: BTreeMap<String, CampaignId>,
    pub(crate) partner_references: BTreeMap<String, PartnerId>,
    /// References for which a provisional partner or campaign has been asked for.
    pub(crate) requested: BTreeSet<(&'static str, String)>,
}

/// What a fact waits for, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) key: String,
    pub(crate) reason: &'static str,
    /// Kind and reference for which a provisional one could be asked for.
    pub(crate) missing: Option<(&'static str, String)>,
}

impl Wait {
    fn on(key: String, reason: &'static str) -> Self {
        Self { key, reason, missing: None }
    }

    /// A fact waits for a conversion.
    pub(crate) fn on_conversion(source: &str, external_id: &str) -> Self {
        Self::on(conversion_key(source, external_id), "conversion_unknown")
    }
}

pub(crate) fn conversion_key(source: &str, external_id: &str) -> String {
    ["conversion:", source, "/", external_id].concat()
}
pub(crate) fn partner_key(name: &impl std::fmt::Display) -> String {
    format!("partner:{name}")
}
pub(crate) fn campaign_key(name: &impl std::fmt::Display) -> String {
    format!("campaign:{name}")
}
pub(crate) fn code_key(code: &str) -> String {
    ["code:", code].concat()
}
pub(crate) fn click_key(click_id: &str) -> String {
    ["click:", click_id].concat()
}
pub(crate) fn enrollment_key(campaign: CampaignId, partner: PartnerId) -> String {
    format!("enrollment:{campaign}/{partner}")
}

impl ReferenceData {
    /// The campaign of that name, if it is known and no draft; otherwise what to wait for.
    pub(crate) fn decided_campaign(&self, name: &Named<CampaignId>) -> Result<(CampaignId, &CampaignProfile), Wait> {
        let unknown = |missing| Wait { key: campaign_key(name), reason: "campaign_unknown", missing };
        let id = match name {
            Named::Id(id) => *id,
            Named::Reference(text) => {
                *self.campaign_references.get(text).ok_or_else(|| unknown(Some(("campaign", text.clone()))))?
            }
        };
        let profile = self.campaigns.get(&id).ok_or_else(|| unknown(None))?;
        if profile.state == CampaignState::Draft {
            return Err(Wait::on(campaign_key(&id), "campaign_draft"));
        }
        Ok((id, profile))
    }

    /// The partner of that name, if it is known and its application decided; otherwise what to wait for.
    pub(crate) fn decided_partner(&self, name: &Named<PartnerId>) -> Result<PartnerId, Wait> {
        let unknown = |missing| Wait { key: partner_key(name), reason: "partner_unknown", missing };
        let id = match name {
            Named::Id(id) => *id,
            Named::Reference(text) => {
                *self.partner_references.get(text).ok_or_else(|| unknown(Some(("partner", text.clone()))))?
            }
        };
        match self.partners.get(&id) {
            None => Err(unknown(None)),
            Some(profile) if profile.state == PartnerState::Applied => {
                Err(Wait::on(partner_key(&id), "partner_applied"))
            }
            Some(_) => Ok(id),
        }
    }

    /// Why the partner may not earn in the campaign from a fact that occurred at `at`; none when it may. With `code`, the
    /// code's own enrolment counts, otherwise any.
    pub(crate) fn bar(
        &self,
        campaign: CampaignId,
        partner: PartnerId,
        at: Timestamp,
        known_at: Timestamp,
        code: Option<&CodeOwner>,
    ) -> Option<&'static str> {
        if !self.partners.get(&partner).is_some_and(|profile| profile.active_at(at)) {
            return Some("partner_not_active");
        }
        let enrolled = self.enrollments.get(&(campaign, partner)).is_some_and(|enrollments| match code {
            Some(owner) => enrollments.covers_by(owner.enrollment_id, at, known_at),
            None => enrollments.covers(at, known_at),
        });
        (!enrolled).then_some("partner_not_enrolled")
    }
}
