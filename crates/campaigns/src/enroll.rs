//! A partner is enrolled in a campaign.

use events::campaigns::{CodeOwner, EnrollmentOpened};
use kernel::{CampaignId, Fault, Key, NewEvent, PartnerId, Result, Timestamp};
use platform::{Tx, published};
use serde::Deserialize;

use crate::enrollments;
use crate::model::span;
use crate::problems;
use crate::store;
use crate::views::{EnrollmentState, EnrollmentView};

/// Enrols a partner in a campaign. A partner can be enrolled several times, one after the other, each with its code.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enroll {
    /// The partner.
    pub partner_id: PartnerId,
    /// The code that credits the partner: unique in the installation, for ever, and compared byte for byte.
    #[serde(default)]
    pub code: Option<Key>,
    /// The partner may earn from here on; absent: from the campaign's start.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// The partner may earn before this; absent: without a planned end.
    #[serde(default)]
    pub to: Option<Timestamp>,
}

impl Enroll {
    /// Writes the enrolment and tells `campaigns.enrollment_opened.v1`. Faults: `campaign_not_found`, `campaign_over`,
    /// `enrolled_partner_unknown`, `invalid`, `code_taken`, `enrollment_overlaps`.
    pub fn run(&self, tx: &mut Tx<'_>, campaign_id: CampaignId) -> Result<EnrollmentView> {
        let campaign = store::load(tx, campaign_id)?;
        campaign.must_not_be_over()?;
        store::check_partner(tx, self.partner_id, "/partner_id")?;
        if span::is_empty((Some(self.from.unwrap_or(campaign.starts_at)), self.to)) {
            return Err(Fault::at(&kernel::problems::INVALID, "/to", "an end after the start is needed"));
        }
        if let Some(code) = &self.code
            && published::get_one::<CodeOwner>(tx, code.as_str().as_bytes())?.is_some()
        {
            return Err(Fault::at(&problems::CODE_TAKEN, "/code", format!("the code {code} is taken")));
        }
        let others = enrollments::of_partner(tx, campaign_id, self.partner_id)?;
        if let Some(other) = others.iter().find(|other| span::overlap((self.from, self.to), (other.from, other.to))) {
            let detail = format!("the enrolment {} is in force at that time", other.id);
            return Err(Fault::new(&problems::ENROLLMENT_OVERLAPS, detail));
        }
        let enrollment = EnrollmentView {
            id: tx.new_id(),
            campaign_id,
            partner_id: self.partner_id,
            state: EnrollmentState::Open,
            code: self.code.clone(),
            from: self.from,
            to: self.to,
            planned_to: self.to,
            opened_at: tx.now(),
            closed_at: None,
        };
        enrollments::insert(tx, &enrollment)?;
        tx.publish(&[NewEvent::of(&opened(&enrollment))])?;
        Ok(enrollment)
    }
}

pub(crate) fn opened(enrollment: &EnrollmentView) -> EnrollmentOpened {
    EnrollmentOpened {
        enrollment_id: enrollment.id,
        campaign_id: enrollment.campaign_id,
        partner_id: enrollment.partner_id,
        code: enrollment.code.clone(),
        from: enrollment.from,
        to: enrollment.planned_to,
    }
}
