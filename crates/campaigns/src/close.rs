//! A partner's enrolment is ended.

use events::campaigns::EnrollmentClosed;
use kernel::{CampaignId, EnrollmentId, Fault, NewEvent, Result, Timestamp};
use platform::Tx;
use serde::Deserialize;

use crate::enrollments;
use crate::problems;
use crate::store;
use crate::views::{self, EnrollmentState, EnrollmentView};

/// Ends a partner's enrolment. A known end can be moved to an earlier time, never to a later one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Enroll;
    use crate::testing::{OTHER_PARTNER, PARTNER, day, enrollment, world};

    #[test]
    fn closing_ends_it_now_and_closing_again_tells_nothing() {
        let world = world();
        let id = world.active();
        let opened = world.enroll(id, &enrollment(PARTNER)).unwrap();
        world.set_day(12);
        let head = world.db.head();
        let closed = world.close(id, opened.id, None).unwrap();
        assert_eq!(
            (closed.state, closed.to, closed.closed_at),
            (EnrollmentState::Closed, Some(day(12)), Some(day(12)))
        );
        let published = world.enrollments(id, PARTNER);
        assert!(published.covers(day(11), day(12)) && !published.covers(day(12), day(12)));
        // Before it was closed, nobody knew its end.
        assert!(published.covers(day(12), day(11)));
        let told: EnrollmentClosed = world.events_after(head)[0].decode().unwrap();
        let expected = EnrollmentClosed { enrollment_id: opened.id, campaign_id: id, partner_id: PARTNER, to: day(12) };
        assert_eq!(told, expected);
        world.set_day(13);
        assert_eq!(world.close(id, opened.id, None).unwrap(), closed);
        assert_eq!(world.close(id, opened.id, Some(day(12))).unwrap(), closed);
        assert_eq!(world.db.head(), head + 1);
        world.enroll(id, &Enroll { from: Some(day(12)), ..enrollment(PARTNER) }).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn an_end_lies_ahead_unless_the_campaign_is_a_draft_and_never_moves_to_later() {
        let world = world();
        let id = world.active();
        let opened = world.enroll(id, &enrollment(PARTNER)).unwrap();
        let fault = world.close(id, opened.id, Some(day(9))).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("end_backdated", "/to"));
        assert_eq!(world.close(id, opened.id, Some(day(30))).unwrap().to, Some(day(30)));
        let fault = world.close(id, opened.id, Some(day(31))).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", "/to"));
        world.set_day(15);
        let closed = world.close(id, opened.id, Some(day(20))).unwrap();
        assert_eq!((closed.to, closed.closed_at), (Some(day(20)), Some(day(15))));
        assert_eq!(world.close(id, opened.id, Some(day(15))).unwrap().to, Some(day(15)), "now is early enough");

        let draft = world.draft();
        let opened = world.enroll(draft, &enrollment(PARTNER)).unwrap();
        assert_eq!(world.close(draft, opened.id, Some(day(5))).unwrap().to, Some(day(5)));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    /// An end that everybody knew from the beginning must not look as if it became known by the closing.
    #[test]
    fn a_planned_end_that_has_come_stays_what_it_was() {
        let world = world();
        let id = world.active();
        let opened = world.enroll(id, &Enroll { to: Some(day(12)), ..enrollment(PARTNER) }).unwrap();
        world.set_day(15);
        let closed = world.close(id, opened.id, None).unwrap();
        assert_eq!(
            (closed.state, closed.to, closed.closed_at),
            (EnrollmentState::Closed, Some(day(12)), Some(day(15)))
        );
        let published = world.enrollments(id, PARTNER);
        assert!(!published.covers(day(13), day(13)) && published.covers(day(11), day(13)));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn only_enrolments_of_the_campaign_are_closed() {
        let world = world();
        let (first, second) = (world.active(), world.active());
        let opened = world.enroll(first, &enrollment(OTHER_PARTNER)).unwrap();
        assert_eq!(world.close(second, opened.id, None).unwrap_err().code(), "enrollment_not_found");
        let unknown = CampaignId::from_bytes([9; 16]);
        assert_eq!(world.close(unknown, opened.id, None).unwrap_err().code(), "campaign_not_found");
    }
}
