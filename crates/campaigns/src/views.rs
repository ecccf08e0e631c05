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
