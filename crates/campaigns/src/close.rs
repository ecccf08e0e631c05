//! A partner's enrolment is ended.

use events::campaigns::EnrollmentClosed;
use kernel::{CampaignId, EnrollmentId, Fault, NewEvent, Result, Timestamp};
use platform::Tx;
use serde::Deserialize;

use crate::enrollments;
use crate::problems;
use crate::store;
use crate::views::{self, EnrollmentState, EnrollmentView};

/// Ends a partner's enrolment. An end can be moved forward again, never back.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CloseEnrollment {
    /// The partner may earn before this; absent: now. Not before now, unless the campaign is a draft, and not after the
    /// end that is known.
    pub to: Option<Timestamp>,
}

impl CloseEnrollment {
    /// Writes the end and tells `campaigns.enrollment_closed.v1`. An enrolment that is over already keeps its end, and
    /// closing it again tells nothing. Faults: `campaign_not_found`, `enrollment_not_found`, `end_backdated`,
    /// `invalid`.
    pub fn run(&self, tx: &mut Tx<'_>, campaign_id: CampaignId, id: EnrollmentId) -> Result<EnrollmentView> {
        let campaign = store::load(tx, campaign_id)?;
        let sql = format!("SELECT {} FROM enrollment WHERE id = ? AND campaign_id = ?", views::ENROLLMENT_COLUMNS);
        let found = tx.query_one(&sql, &[(&id).into(), (&campaign_id).into()], views::enrollment)?;
        let mut enrollment = found.ok_or_else(|| {
            Fault::new(&problems::ENROLLMENT_NOT_FOUND, format!("there is no enrolment {id} in {campaign_id}"))
        })?;
        let now = tx.now();
        let known = enrollment.to;
        if let Some(to) = self.to.filter(|to| known != Some(*to)) {
            if to < now && !campaign.is_draft() {
                let detail = format!("{to} has passed; the earliest end is now, {now}");
                return Err(Fault::at(&problems::END_BACKDATED, "/to", detail));
            }
            if let Some(known) = known.filter(|known| *known < to) {
                let detail = format!("the enrolment ends at {known}; it cannot end later");
                return Err(Fault::at(&kernel::problems::INVALID, "/to", detail));
            }
        }
        let asked = self.to.unwrap_or(now);
        let to = known.map_or(asked, |known| known.min(asked));
        if enrollment.state == EnrollmentState::Closed && known == Some(to) {
            return Ok(enrollment);
        }
        enrollment.state = EnrollmentState::Closed;
        enrollment.to = Some(to);
        enrollment.closed_at = Some(now);
        enrollments::save(tx, &enrollment)?;
        let event = EnrollmentClosed { enrollment_id: id, campaign_id, partner_id: enrollment.partner_id, to };
        tx.publish(&[NewEvent::of(&event)])?;
        Ok(enrollment)
    }
}
