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

#[cfg(test)]
mod tests {
    use events::campaigns::EnrollmentSpan;

    use super::*;
    use crate::CampaignAction;
    use crate::testing::{NOBODY, OTHER_PARTNER, PARTNER, day, enrollment, key, world};

    #[test]
    fn an_enrolment_is_stored_published_and_told() {
        let world = world();
        let id = world.active();
        let head = world.db.head();
        let enroll = Enroll { code: Some(key("SUMMER")), to: Some(day(50)), ..enrollment(PARTNER) };
        let view = world.enroll(id, &enroll).unwrap();
        assert_eq!((view.state, view.opened_at, view.closed_at), (EnrollmentState::Open, day(10), None));
        let span = EnrollmentSpan {
            enrollment_id: view.id,
            opened_at: day(10),
            from: None,
            to: Some(day(50)),
            closed_at: None,
        };
        let published = world.enrollments(id, PARTNER);
        assert_eq!(published.0, [span]);
        // It reaches back to the campaign's start, and its end was known from the beginning.
        assert!(published.covers(day(0), day(10)) && published.covers(day(49), day(10)));
        assert!(!published.covers(day(50), day(10)) && !published.covers(day(0), day(9)));
        assert_eq!(world.code("SUMMER"), Some(enrollments::code_owner(&view)));
        assert_eq!(world.code("summer"), None);
        let told = world.events_after(head);
        assert_eq!((told.len(), told[0].decode::<EnrollmentOpened>().unwrap()), (1, opened(&view)));
        assert_eq!(told[0].subject, view.id.to_string());
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn a_code_is_unique_in_the_installation_for_ever() {
        let world = world();
        let (first, second) = (world.active(), world.active());
        let with_code = |partner_id| Enroll { code: Some(key("SUMMER")), ..enrollment(partner_id) };
        let view = world.enroll(first, &with_code(PARTNER)).unwrap();
        for (campaign, partner) in [(first, OTHER_PARTNER), (second, PARTNER)] {
            let fault = world.enroll(campaign, &with_code(partner)).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("code_taken", "/code"));
        }
        world.close(first, view.id, None).unwrap();
        world.change(first, CampaignAction::Cancel).unwrap();
        assert_eq!(world.enroll(second, &with_code(PARTNER)).unwrap_err().code(), "code_taken");
        assert_eq!(world.code("SUMMER").unwrap().enrollment_id, view.id);
    }

    #[test]
    fn enrolments_of_a_partner_in_a_campaign_do_not_overlap() {
        let world = world();
        let id = world.active();
        let between =
            |from: Option<u32>, to: Option<u32>| Enroll { from: from.map(day), to: to.map(day), ..enrollment(PARTNER) };
        world.enroll(id, &between(Some(20), Some(30))).unwrap();
        let head = world.db.head();
        let overlapping = [
            (None, None),
            (Some(10), None),
            (None, Some(21)),
            (Some(29), Some(40)),
            (Some(22), Some(23)),
            (Some(20), Some(30)),
        ];
        for (from, to) in overlapping {
            let fault = world.enroll(id, &between(from, to)).unwrap_err();
            assert_eq!(fault.code(), "enrollment_overlaps", "{from:?} {to:?}");
        }
        assert_eq!(world.db.head(), head);
        world.enroll(id, &between(None, Some(20))).unwrap();
        world.enroll(id, &between(Some(30), None)).unwrap();
        assert_eq!(world.enrollments(id, PARTNER).0.len(), 3);
        // Others, and other campaigns, do not matter.
        world.enroll(id, &enrollment(OTHER_PARTNER)).unwrap();
        world.enroll(world.active(), &enrollment(PARTNER)).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let world = world();
        let id = world.active();
        let head = world.db.head();
        let backwards = Enroll { from: Some(day(20)), to: Some(day(20)), ..enrollment(PARTNER) };
        let before_the_start = Enroll { to: Some(day(0)), ..enrollment(PARTNER) };
        for (code, pointer, enroll) in [
            ("enrolled_partner_unknown", "/partner_id", enrollment(NOBODY)),
            ("invalid", "/to", backwards),
            ("invalid", "/to", before_the_start),
        ] {
            let fault = world.enroll(id, &enroll).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), (code, pointer));
        }
        assert_eq!(world.db.head(), head);
        let unknown = CampaignId::from_bytes([9; 16]);
        assert_eq!(world.enroll(unknown, &enrollment(PARTNER)).unwrap_err().code(), "campaign_not_found");
        world.change(id, CampaignAction::Complete).unwrap();
        assert_eq!(world.enroll(id, &enrollment(PARTNER)).unwrap_err().code(), "campaign_over");
    }
}
