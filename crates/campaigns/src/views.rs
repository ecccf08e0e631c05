//! What is shown of campaigns and enrolments: one, or a list.

use events::campaigns::{AttributionPolicy, CampaignProfile, CampaignReference, CampaignState, Pause, TermsVersion};
use kernel::{CampaignId, Currency, EnrollmentId, Fault, Key, Label, Money, PartnerId, Reference, Result, Timestamp};
use platform::{Listing, Page, Paged, Reader, Row, published};
use serde::{Deserialize, Serialize};

use crate::model::life::Life;
use crate::problems;

/// A campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct CampaignView {
    /// Its id.
    pub id: CampaignId,
    /// Where it is in its life.
    pub state: CampaignState,
    /// Its name, for people.
    pub name: Label,
    /// What it is, in words of its owner.
    pub kind: Option<Key>,
    /// The currency of its conversions and commissions.
    pub currency: Currency,
    /// Conversions count from here on.
    pub starts_at: Timestamp,
    /// Conversions count before this: the planned end.
    pub ends_at: Option<Timestamp>,
    /// When it first ran.
    pub activated_at: Option<Timestamp>,
    /// When it was completed or cancelled: conversions count before this too, and none if it never ran.
    pub ended_at: Option<Timestamp>,
    /// Spans in which it stood still: `from` included, `to` excluded, open without `to`.
    pub pauses: Vec<Pause>,
    /// At most this much is committed in commissions.
    pub budget: Option<Money>,
    /// How touches are matched with conversions.
    pub attribution: AttributionPolicy,
    /// The versions of terms.
    pub terms: Vec<TermsVersion>,
    /// The partner that runs it, if it is one.
    pub owner_partner_id: Option<PartnerId>,
    /// Words to find it by.
    pub tags: Vec<Key>,
    /// What other systems call it.
    pub external_refs: Vec<Reference>,
    /// Whatever its owner wants to keep with it.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Created on behalf of a fact that named it by an external reference, and not given a name since.
    pub provisional: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// 1, 2, 3, …: grows with every change.
    pub version: i64,
}

impl CampaignView {
    /// The part that its life decides.
    pub(crate) fn life(&self) -> Life {
        Life {
            state: self.state,
            pauses: self.pauses.clone(),
            ended_at: self.ended_at,
            activated_at: self.activated_at,
        }
    }

    /// What other contexts may know of it.
    pub(crate) fn profile(&self) -> CampaignProfile {
        CampaignProfile {
            state: self.state,
            currency: self.currency,
            starts_at: self.starts_at,
            ends_at: self.life().end(self.starts_at, self.ends_at),
            pauses: self.pauses.clone(),
            attribution: self.attribution,
            terms: self.terms.clone(),
            budget_minor: self.budget.map(|budget| budget.amount_minor),
        }
    }

    pub(crate) fn is_draft(&self) -> bool {
        self.state == CampaignState::Draft
    }

    /// Refuses what makes no sense in a campaign that is completed or cancelled. Fault: `campaign_over`.
    pub(crate) fn must_not_be_over(&self) -> Result<()> {
        match self.ended_at {
            None => Ok(()),
            Some(at) => Err(Fault::new(&problems::CAMPAIGN_OVER, format!("the campaign is {} since {at}", self.state))),
        }
    }
}

/// Which campaigns are listed: those that meet every condition that is there.
#[derive(Debug, Clone, Default)]
pub struct CampaignFilter {
    /// In this state.
    pub state: Option<CampaignState>,
    /// With this external reference.
    pub external_ref: Option<Reference>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created before.
    pub created_to: Option<Timestamp>,
}

kernel::names! {
    /// The life of an enrolment.
    pub enum EnrollmentState {
        /// Nobody has ended it; it may have a planned end.
        Open = "open",
        /// Somebody has ended it, as of its `to`.
        Closed = "closed",
    }
}

/// A partner's enrolment in a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct EnrollmentView {
    /// Its id.
    pub id: EnrollmentId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// Where it is in its life.
    pub state: EnrollmentState,
    /// The code that credits the partner.
    pub code: Option<Key>,
    /// The partner may earn from here on; absent: from the campaign's start.
    pub from: Option<Timestamp>,
    /// The partner may earn before this.
    pub to: Option<Timestamp>,
    /// The end that was given when it was opened.
    pub planned_to: Option<Timestamp>,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was closed.
    pub closed_at: Option<Timestamp>,
}

/// Which enrolments are listed: those that meet every condition that is there.
#[derive(Debug, Clone, Default)]
pub struct EnrollmentFilter {
    /// Of this partner.
    pub partner_id: Option<PartnerId>,
    /// In this state.
    pub state: Option<EnrollmentState>,
}

/// The campaign. Fault: `campaign_not_found`.
pub fn one(reader: &Reader<'_>, id: CampaignId) -> Result<CampaignView> {
    let found = reader.query_one("SELECT doc FROM campaign WHERE id = ?", &[(&id).into()], |row| row.json(0))?;
    found.ok_or_else(|| Fault::new(&problems::CAMPAIGN_NOT_FOUND, format!("there is no campaign {id}")))
}

/// A page of campaigns, in the order of their creation.
pub fn list(reader: &Reader<'_>, filter: &CampaignFilter, page: &Page) -> Result<Paged<CampaignView>> {
    let mut named: Option<CampaignId> = None;
    if let Some(reference) = &filter.external_ref {
        let found: Option<CampaignReference> = published::get_one(reader, reference.to_string().as_bytes())?;
        let Some(found) = found else {
            return Ok(Paged { items: Vec::new(), next: None, total: page.include_total.then_some(0) });
        };
        named = Some(found.campaign_id);
    }
    Listing::of("campaign", "id, doc")
        .when("state = ?", filter.state.map(CampaignState::as_str))
        .when("id = ?", named.as_ref())
        .when("created_at >= ?", filter.created_from)
        .when("created_at < ?", filter.created_to)
        .page(reader, page, |row| row.json(1))
}

pub(crate) const ENROLLMENT_COLUMNS: &str =
    "id, campaign_id, partner_id, state, code, from_at, to_at, planned_to, opened_at, closed_at";

pub(crate) fn enrollment(row: &Row<'_>) -> Result<EnrollmentView> {
    Ok(EnrollmentView {
        id: row.id(0)?,
        campaign_id: row.id(1)?,
        partner_id: row.id(2)?,
        state: row.name(3)?,
        code: row.opt_text(4)?.map(Key::new).transpose().map_err(Fault::internal)?,
        from: row.opt_time(5)?,
        to: row.opt_time(6)?,
        planned_to: row.opt_time(7)?,
        opened_at: row.time(8)?,
        closed_at: row.opt_time(9)?,
    })
}

/// A page of a campaign's enrolments, in the order of their opening. Fault: `campaign_not_found`.
pub fn enrollments(
    reader: &Reader<'_>,
    campaign_id: CampaignId,
    filter: &EnrollmentFilter,
    page: &Page,
) -> Result<Paged<EnrollmentView>> {
    one(reader, campaign_id)?;
    Listing::of("enrollment", ENROLLMENT_COLUMNS)
        .when("campaign_id = ?", Some(&campaign_id))
        .when("partner_id = ?", filter.partner_id.as_ref())
        .when("state = ?", filter.state.map(EnrollmentState::as_str))
        .page(reader, page, enrollment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{OTHER_PARTNER, PARTNER, creation, day, enrollment, key, reference, world};
    use crate::{CampaignAction, Create, Enroll};

    #[test]
    fn campaigns_meet_every_condition_page_by_page() {
        let world = world();
        let mut ids = Vec::new();
        for number in 10..15 {
            world.set_day(number);
            let external_refs = vec![reference("s", &number.to_string())];
            ids.push(world.create(&Create { external_refs, ..creation() }).unwrap().id);
        }
        world.change(ids[2], CampaignAction::Activate).unwrap();
        let page = Page { include_total: true, ..Page::first(500) };
        let found = |filter: CampaignFilter| -> Vec<usize> {
            let paged = world.read(|reader| list(reader, &filter, &page));
            assert_eq!(paged.total, i64::try_from(paged.items.len()).ok());
            let place = |campaign: &CampaignView| ids.iter().position(|id| *id == campaign.id).unwrap();
            paged.items.iter().map(place).collect()
        };
        let all = CampaignFilter::default;
        assert_eq!(found(all()), [0, 1, 2, 3, 4]);
        assert_eq!(found(CampaignFilter { state: Some(CampaignState::Draft), ..all() }), [0, 1, 3, 4]);
        let dated = CampaignFilter { created_from: Some(day(11)), created_to: Some(day(13)), ..all() };
        assert_eq!(found(dated), [1, 2]);
        assert_eq!(found(CampaignFilter { external_ref: Some(reference("s", "13")), ..all() }), [3]);
        assert_eq!(found(CampaignFilter { external_ref: Some(reference("s", "9")), ..all() }), [0; 0]);

        let first = world.read(|reader| list(reader, &CampaignFilter::default(), &Page::first(3)));
        assert_eq!((first.items.len(), first.next), (3, Some(*ids[2].as_bytes())));
        let rest = Page { after: first.next, ..Page::first(3) };
        let rest = world.read(|reader| list(reader, &CampaignFilter::default(), &rest));
        assert_eq!(rest.items.iter().map(|campaign| campaign.id).collect::<Vec<_>>(), ids[3..]);
        assert_eq!(rest.next, None);
    }

    #[test]
    fn enrolments_are_listed_per_campaign_by_partner_and_state() {
        let world = world();
        let (id, other) = (world.active(), world.active());
        let full = Enroll { code: Some(key("A")), from: Some(day(1)), to: Some(day(20)), ..enrollment(PARTNER) };
        let first = world.enroll(id, &full).unwrap();
        let second = world.enroll(id, &enrollment(OTHER_PARTNER)).unwrap();
        let third = world.enroll(id, &Enroll { from: Some(day(20)), ..enrollment(PARTNER) }).unwrap();
        world.enroll(other, &enrollment(PARTNER)).unwrap();
        let first = world.close(id, first.id, Some(day(15))).unwrap();
        assert_eq!((first.from, first.to, first.planned_to), (Some(day(1)), Some(day(15)), Some(day(20))));
        let found = |partner_id, state| {
            let filter = EnrollmentFilter { partner_id, state };
            world.read(|reader| enrollments(reader, id, &filter, &Page::first(500))).items
        };
        assert_eq!(found(None, None), [first.clone(), second.clone(), third.clone()]);
        assert_eq!(found(Some(PARTNER), None), [first.clone(), third.clone()]);
        assert_eq!(found(None, Some(EnrollmentState::Open)), [second, third]);
        assert_eq!(found(Some(PARTNER), Some(EnrollmentState::Closed)), [first]);
        let unknown = CampaignId::from_bytes([9; 16]);
        let answer = world.db.read(|r| enrollments(r, unknown, &EnrollmentFilter::default(), &Page::first(1)));
        assert_eq!(answer.unwrap_err().code(), "campaign_not_found");
    }

    /// What the API answers; a stored campaign must decode for ever.
    #[test]
    fn the_shape_of_a_campaign_is_kept() {
        let text = r#"{"id":"cmp_02081040g2081040g2081040g2","state":"completed","name":"Summer","kind":"launch",
            "currency":"USD","starts_at":"2026-01-31T12:00:00Z","ends_at":null,"activated_at":"2026-01-31T12:00:00Z",
            "ended_at":"2026-03-31T12:00:00Z","pauses":[{"from":"2026-02-01T12:00:00Z","to":"2026-02-02T12:00:00Z"}],
            "budget":{"amount_minor":5,"currency":"USD"},"attribution":{"model":"last_touch","window_days":30},
            "terms":[{"version":1,"valid_from":"2026-01-31T12:00:00Z","published_at":"2026-01-31T12:00:00Z",
            "terms":{"components":[{"type":"percent","basis_points":800}],"hold_days":30}}],"owner_partner_id":null,
            "tags":["a"],"external_refs":[{"system":"s","id":"1"}],"metadata":{"a":1},"provisional":false,
            "created_at":"2026-01-31T12:00:00Z","updated_at":"2026-01-31T12:00:00Z","version":3}"#;
        let campaign: CampaignView = serde_json::from_str(text).unwrap();
        let stored: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&campaign).unwrap(), stored);
    }
}
