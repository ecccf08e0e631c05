//! What `campaigns` tells: life cycle, terms, enrolments; and the reference data from which attribution and commissions
//! are decided.

use kernel::{
    BasisPoints, CampaignId, Currency, Descriptor, Duration, EnrollmentId, Fault, Key, Money, PartnerId, Published,
    Reason, Reference, Result, Timestamp, describe, problems,
};
use serde::{Deserialize, Serialize};

use crate::conversions::ConversionKind;
use crate::{event, fixed};

kernel::names! {
    /// The life of a campaign.
    pub enum CampaignState {
        /// Being prepared; facts that name it wait.
        Draft = "draft",
        /// Runs.
        Active = "active",
        /// Stands still; facts that occur meanwhile are rejected.
        Paused = "paused",
        /// Ended as planned.
        Completed = "completed",
        /// Ended early.
        Cancelled = "cancelled",
    }
}

kernel::names! {
    /// Which of a customer's touches is credited.
    pub enum AttributionModel {
        /// The latest before the conversion.
        LastTouch = "last_touch",
        /// The earliest in the window.
        FirstTouch = "first_touch",
    }
}

/// How touches are matched with conversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AttributionPolicy {
    /// Which touch is credited.
    pub model: AttributionModel,
    /// A touch counts when the conversion occurs at most this many days of 86,400 seconds after it; 1 to 3,650.
    #[schema(minimum = 1, maximum = 3650)]
    pub window_days: u32,
}

impl Default for AttributionPolicy {
    fn default() -> Self {
        Self { model: AttributionModel::LastTouch, window_days: 30 }
    }
}

impl AttributionPolicy {
    /// The window as a span of time.
    pub fn window(&self) -> Duration {
        Duration::from_secs(u64::from(self.window_days) * 86_400)
    }
}

/// When a component of terms applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// Only conversions of these kinds; empty: every kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<ConversionKind>,
    /// Only lines of these categories; empty: the whole conversion.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Key>,
    /// Only conversions worth at least this many minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub minimum_amount_minor: Option<i64>,
}

/// One part of a commission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Component {
    /// A share of the amount, rounded half-up.
    Percent {
        /// Hundredths of a percent.
        basis_points: BasisPoints,
        /// When it applies.
        #[serde(default, skip_serializing_if = "is_default")]
        conditions: Conditions,
    },
    /// A fixed amount per conversion.
    Flat {
        /// Minor units.
        #[schema(minimum = 0)]
        amount_minor: i64,
        /// When it applies.
        #[serde(default, skip_serializing_if = "is_default")]
        conditions: Conditions,
    },
    /// A fixed amount for a customer's first sale in the campaign; earned once per customer.
    FirstPurchaseBonus {
        /// Minor units.
        #[schema(minimum = 0)]
        amount_minor: i64,
        /// When it applies.
        #[serde(default, skip_serializing_if = "is_default")]
        conditions: Conditions,
    },
}

fn is_default(conditions: &Conditions) -> bool {
    *conditions == Conditions::default()
}

/// What is earned, held and approved how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The parts, added up; then the cap.
    #[schema(min_items = 1, max_items = 20)]
    pub components: Vec<Component>,
    /// At most this many minor units per conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub cap_minor: Option<i64>,
    /// A commission is held this many days after its conversion was recorded; 0 to 3,650.
    #[serde(default = "default_hold_days")]
    #[schema(minimum = 0, maximum = 3650)]
    pub hold_days: u32,
    /// After the hold, commissions up to this many minor units (kept, inclusive) are approved automatically; absent:
    /// a person approves every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    pub auto_approve_up_to_minor: Option<i64>,
}

const fn default_hold_days() -> u32 {
    30
}

impl Terms {
    /// Checks what the types leave open; `pointer` is the place of the terms in the request, for example `/terms`.
    /// Fault: `invalid`, at the first place that is wrong.
    pub fn check(&self, pointer: &str) -> Result<()> {
        let refuse =
            |place: String, detail: &str| Err(Fault::at(&problems::INVALID, format!("{pointer}{place}"), detail));
        if self.components.is_empty() || self.components.len() > 20 {
            return refuse("/components".to_owned(), "1 to 20 components are needed");
        }
        for (index, component) in self.components.iter().enumerate() {
            let (amount_minor, conditions) = match component {
                Component::Percent { conditions, .. } => (0, conditions),
                Component::Flat { amount_minor, conditions }
                | Component::FirstPurchaseBonus { amount_minor, conditions } => (*amount_minor, conditions),
            };
            if amount_minor < 0 {
                return refuse(format!("/components/{index}/amount_minor"), "zero or more is needed");
            }
            if conditions.minimum_amount_minor.is_some_and(|minimum| minimum < 0) {
                let place = format!("/components/{index}/conditions/minimum_amount_minor");
                return refuse(place, "zero or more is needed");
            }
            if conditions.categories.len() > 100 {
                return refuse(format!("/components/{index}/conditions/categories"), "at most 100 are possible");
            }
        }
        if self.cap_minor.is_some_and(|cap| cap < 0) {
            return refuse("/cap_minor".to_owned(), "zero or more is needed");
        }
        if self.hold_days > 3_650 {
            return refuse("/hold_days".to_owned(), "0 to 3650 days are possible");
        }
        if self.auto_approve_up_to_minor.is_some_and(|limit| limit < 0) {
            return refuse("/auto_approve_up_to_minor".to_owned(), "zero or more is needed");
        }
        Ok(())
    }
}

/// A version of a campaign's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TermsVersion {
    /// 1, 2, 3, …
    pub version: u32,
    /// In force for conversions that occur from here on, until the next version's `valid_from`.
    pub valid_from: Timestamp,
    /// When it was published.
    pub published_at: Timestamp,
    /// The terms.
    pub terms: Terms,
}

/// A campaign was created, as a draft.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Created {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// Its currency.
    pub currency: Currency,
    /// Conversions count from here on.
    pub starts_at: Timestamp,
    /// Conversions count before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// What other systems call it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<Reference>,
}
event!(
    Created,
    "campaigns.created.v1",
    "campaign",
    campaign_id,
    "A campaign was created, as a draft.",
    Created {
        campaign_id: fixed::id(2),
        currency: Currency::USD,
        starts_at: fixed::time(0),
        ends_at: Some(fixed::time(86_400)),
        external_refs: Vec::new(),
    }
);

macro_rules! campaign_change {
    ($($name:ident, $event_type:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The campaign.
            pub campaign_id: CampaignId,
            /// Why, if somebody said so.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<Reason>,
        }
        event!($name, $event_type, "campaign", campaign_id, $meaning, $name { campaign_id: fixed::id(2), reason: None });
    )*};
}

campaign_change! {
    Activated, "campaigns.activated.v1", "A campaign runs.";
    Paused, "campaigns.paused.v1", "A campaign stands still from now on.";
    Resumed, "campaigns.resumed.v1", "A paused campaign runs again from now on.";
    Completed, "campaigns.completed.v1", "A campaign ended as planned.";
    Cancelled, "campaigns.cancelled.v1", "A campaign ended early.";
}

/// A campaign's data changed; the data are in the owner's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Updated {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// External references, whole, after the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<Reference>,
}
event!(
    Updated,
    "campaigns.updated.v1",
    "campaign",
    campaign_id,
    "A campaign's data changed; the data are in the owner's row.",
    Updated { campaign_id: fixed::id(2), external_refs: Vec::new() }
);

/// A campaign's budget was set, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BudgetChanged {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The whole budget; absent: none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Money>,
}
event!(
    BudgetChanged,
    "campaigns.budget_changed.v1",
    "campaign",
    campaign_id,
    "A campaign's budget was set, changed or removed.",
    BudgetChanged { campaign_id: fixed::id(2), budget: Some(Money::new(1_000_000, Currency::USD)) }
);

/// A version of terms was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TermsPublished {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The version.
    pub version: u32,
    /// In force from here on.
    pub valid_from: Timestamp,
    /// The terms.
    pub terms: Terms,
}
event!(
    TermsPublished,
    "campaigns.terms_published.v1",
    "campaign",
    campaign_id,
    "A version of terms was published; versions are never edited.",
    TermsPublished { campaign_id: fixed::id(2), version: 1, valid_from: fixed::time(0), terms: sample_terms() }
);

fn sample_terms() -> Terms {
    Terms {
        components: vec![
            Component::Percent {
                basis_points: BasisPoints::new(800).expect("in range"),
                conditions: Conditions::default(),
            },
            Component::FirstPurchaseBonus {
                amount_minor: 150,
                conditions: Conditions { minimum_amount_minor: Some(1_000), ..Conditions::default() },
            },
        ],
        cap_minor: Some(2_500),
        hold_days: 30,
        auto_approve_up_to_minor: Some(1_000),
    }
}

/// A partner was enrolled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentOpened {
    /// The enrolment.
    pub enrollment_id: EnrollmentId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The code that credits the partner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Key>,
    /// May earn from here on; absent: from the campaign's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// May earn before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}
event!(
    EnrollmentOpened,
    "campaigns.enrollment_opened.v1",
    "enrollment",
    enrollment_id,
    "A partner was enrolled in a campaign.",
    EnrollmentOpened {
        enrollment_id: fixed::id(3),
        campaign_id: fixed::id(2),
        partner_id: fixed::id(1),
        code: Some(Key::new("SUMMER").expect("a valid key")),
        from: None,
        to: None,
    }
);

/// A partner's enrolment ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct EnrollmentClosed {
    /// The enrolment.
    pub enrollment_id: EnrollmentId,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// May earn before this.
    pub to: Timestamp,
}
event!(
    EnrollmentClosed,
    "campaigns.enrollment_closed.v1",
    "enrollment",
    enrollment_id,
    "A partner's enrolment ended.",
    EnrollmentClosed {
        enrollment_id: fixed::id(3),
        campaign_id: fixed::id(2),
        partner_id: fixed::id(1),
        to: fixed::time(60),
    }
);

/// Reference data: everything about a campaign that decides attribution and commissions. Key: the campaign's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignProfile {
    /// Today's state.
    pub state: CampaignState,
    /// Its currency.
    pub currency: Currency,
    /// Conversions count from here on.
    pub starts_at: Timestamp,
    /// Conversions count before this: the planned end, or the instant of completion or cancellation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at: Option<Timestamp>,
    /// Spans in which it stood still, `from` included, `to` excluded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pauses: Vec<Pause>,
    /// How touches are matched.
    pub attribution: AttributionPolicy,
    /// The versions of terms, by version.
    pub terms: Vec<TermsVersion>,
    /// At most this much is committed in commissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_minor: Option<i64>,
}

/// A span in which a campaign stood still.
pub type Pause = crate::partners::Inactive;

impl Published for CampaignProfile {
    const TABLE: &'static str = "pub_campaign";
}

impl CampaignProfile {
    /// Why a conversion that occurred at `at` does not count; none when it does.
    pub fn refusal_at(&self, at: Timestamp) -> Option<&'static str> {
        if at < self.starts_at || self.ends_at.is_some_and(|end| at >= end) {
            Some("outside_campaign")
        } else if self.pauses.iter().any(|pause| pause.covers(at)) {
            Some("campaign_paused")
        } else {
            None
        }
    }

    /// The version of terms in force at `at`: the latest `valid_from` at or before it, ties to the higher version; among
    /// the versions known at `known_at`.
    pub fn terms_at(&self, at: Timestamp, known_at: Timestamp) -> Option<&TermsVersion> {
        let known = self.terms.iter().filter(|version| version.valid_from <= at && version.published_at <= known_at);
        known.max_by_key(|version| (version.valid_from, version.version))
    }
}

/// Reference data: a partner's enrolments in a campaign. Key: the campaign's id, then the partner's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrollments(pub Vec<EnrollmentSpan>);

/// One enrolment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentSpan {
    /// The enrolment.
    pub enrollment_id: EnrollmentId,
    /// When it became known.
    pub opened_at: Timestamp,
    /// May earn from here on; absent: from the campaign's start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
    /// May earn before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
    /// When it became known that it ends then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<Timestamp>,
}

impl Published for Enrollments {
    const TABLE: &'static str = "pub_enrollment";
}

impl Enrollments {
    /// The key of a partner's enrolments in a campaign.
    pub fn key(campaign_id: CampaignId, partner_id: PartnerId) -> [u8; 32] {
        let mut key = [0; 32];
        key[..16].copy_from_slice(campaign_id.as_bytes());
        key[16..].copy_from_slice(partner_id.as_bytes());
        key
    }

    /// Whether the partner was enrolled at `at`, as known at `known_at`.
    pub fn covers(&self, at: Timestamp, known_at: Timestamp) -> bool {
        self.0.iter().any(|span| span.covers(at, known_at))
    }

    /// Whether this one enrolment, a code's own, covered `at`, as known at `known_at`.
    pub fn covers_by(&self, enrollment_id: EnrollmentId, at: Timestamp, known_at: Timestamp) -> bool {
        self.0.iter().any(|span| span.enrollment_id == enrollment_id && span.covers(at, known_at))
    }
}

impl EnrollmentSpan {
    fn covers(&self, at: Timestamp, known_at: Timestamp) -> bool {
        // An end that was set later than `known_at` is not known yet, unless it was there from the beginning.
        let to = if self.closed_at.is_some_and(|closed| closed > known_at) { None } else { self.to };
        self.opened_at <= known_at && self.from.is_none_or(|from| from <= at) && to.is_none_or(|to| at < to)
    }
}

/// Reference data: whom a code credits. Key: the code's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeOwner {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The code's own enrolment: another one of the same partner does not revive the code.
    pub enrollment_id: EnrollmentId,
    /// When the code became known.
    pub opened_at: Timestamp,
}

impl Published for CodeOwner {
    const TABLE: &'static str = "pub_code";
}

/// Reference data: which campaign an external reference names. Key: `system:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CampaignReference {
    /// The campaign.
    pub campaign_id: CampaignId,
}

impl Published for CampaignReference {
    const TABLE: &'static str = "pub_campaign_reference";
}

/// This context's rows of the catalogue.
pub fn catalogue() -> Vec<Descriptor> {
    vec![
        describe::<Created>(),
        describe::<Activated>(),
        describe::<Paused>(),
        describe::<Resumed>(),
        describe::<Completed>(),
        describe::<Cancelled>(),
        describe::<Updated>(),
        describe::<BudgetChanged>(),
        describe::<TermsPublished>(),
        describe::<EnrollmentOpened>(),
        describe::<EnrollmentClosed>(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_refused_at_the_place_that_is_wrong() {
        sample_terms().check("/terms").unwrap();
        let below_zero = |component| Terms { components: vec![component], ..sample_terms() };
        let minimum = Conditions { minimum_amount_minor: Some(-1), ..Conditions::default() };
        for (terms, place) in [
            (Terms { components: Vec::new(), ..sample_terms() }, "/terms/components"),
            (
                Terms { components: vec![sample_terms().components[0].clone(); 21], ..sample_terms() },
                "/terms/components",
            ),
            (
                below_zero(Component::Flat { amount_minor: -1, conditions: Conditions::default() }),
                "/terms/components/0/amount_minor",
            ),
            (
                below_zero(Component::FirstPurchaseBonus { amount_minor: -1, conditions: Conditions::default() }),
                "/terms/components/0/amount_minor",
            ),
            (
                below_zero(Component::Flat { amount_minor: 0, conditions: minimum }),
                "/terms/components/0/conditions/minimum_amount_minor",
            ),
            (Terms { cap_minor: Some(-1), ..sample_terms() }, "/terms/cap_minor"),
            (Terms { hold_days: 3_651, ..sample_terms() }, "/terms/hold_days"),
            (Terms { auto_approve_up_to_minor: Some(-1), ..sample_terms() }, "/terms/auto_approve_up_to_minor"),
        ] {
            let fault = terms.check("/terms").unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", place));
        }
    }
}
