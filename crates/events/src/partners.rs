//! What `partners` tells: who may earn, and since when.

use kernel::{Descriptor, PartnerId, Published, Reason, Reference, Timestamp, describe};
use serde::{Deserialize, Serialize};

use crate::{event, fixed};

kernel::names! {
    /// What a partner is.
    pub enum PartnerKind {
        /// Sends traffic and sales from own pages.
        Affiliate = "affiliate",
        /// A person with an audience.
        Influencer = "influencer",
        /// A company: a reseller, an agency.
        Company = "company",
    }
}

kernel::names! {
    /// The life of a partner.
    pub enum PartnerState {
        /// Has applied; facts that name it wait for the decision.
        Applied = "applied",
        /// May earn.
        Active = "active",
        /// Was refused.
        Rejected = "rejected",
        /// May not earn for now.
        Suspended = "suspended",
        /// Has left.
        Terminated = "terminated",
    }
}

macro_rules! partner_change {
    ($($name:ident, $event_type:literal, $meaning:literal;)*) => {$(
        #[doc = $meaning]
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// The partner.
            pub partner_id: PartnerId,
            /// Why, if somebody said so.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub reason: Option<Reason>,
        }
        event!($name, $event_type, "partner", partner_id, $meaning, $name { partner_id: fixed::id(1), reason: None });
    )*};
}

/// A partner applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Applied {
    /// The partner.
    pub partner_id: PartnerId,
    /// What it is.
    pub kind: PartnerKind,
    /// Created on behalf of a fact that named it by an external reference; not completed yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub provisional: bool,
    /// What other systems call it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<Reference>,
}
event!(
    Applied,
    "partners.applied.v1",
    "partner",
    partner_id,
    "A partner applied.",
    Applied { partner_id: fixed::id(1), kind: PartnerKind::Affiliate, provisional: false, external_refs: Vec::new() }
);

partner_change! {
    Activated, "partners.activated.v1", "A partner may earn; the first activation reaches back to each campaign's start.";
    Rejected, "partners.rejected.v1", "A partner's application was refused.";
    Suspended, "partners.suspended.v1", "A partner may not earn from now on, until reinstated; approvals and payouts wait.";
    Reinstated, "partners.reinstated.v1", "A suspended partner may earn again from now on.";
    Terminated, "partners.terminated.v1", "A partner has left; what it earned before stays owed.";
}

/// A partner's data changed; what changed is in the owner's row, not here, because it may be personal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Updated {
    /// The partner.
    pub partner_id: PartnerId,
    /// External references, whole, after the change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub external_refs: Vec<Reference>,
}
event!(
    Updated,
    "partners.updated.v1",
    "partner",
    partner_id,
    "A partner's data changed.",
    Updated { partner_id: fixed::id(1), external_refs: Vec::new() }
);

/// Reference data: whether a partner may earn at an instant. Key: the partner's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerProfile {
    /// Today's state.
    pub state: PartnerState,
    /// Spans in which it may not earn after its first activation, `from` included, `to` excluded; open when `to` is none.
    pub inactive: Vec<Inactive>,
}

/// A span of time: in which a partner may not earn, or in which a campaign stood still.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Inactive {
    /// First instant.
    pub from: Timestamp,
    /// First instant after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Timestamp>,
}

impl Inactive {
    /// Whether `at` is inside.
    pub fn covers(&self, at: Timestamp) -> bool {
        self.from <= at && self.to.is_none_or(|to| at < to)
    }
}

impl Published for PartnerProfile {
    const TABLE: &'static str = "pub_partner";
}

impl PartnerProfile {
    /// Whether the partner may earn from a fact that occurred at `at`. Activation reaches back (rules section 3).
    pub fn active_at(&self, at: Timestamp) -> bool {
        !matches!(self.state, PartnerState::Applied | PartnerState::Rejected)
            && !self.inactive.iter().any(|span| span.covers(at))
    }
}

/// Reference data: which partner an external reference names. Key: `system:id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartnerReference {
    /// The partner.
    pub partner_id: PartnerId,
}

impl Published for PartnerReference {
    const TABLE: &'static str = "pub_partner_reference";
}

/// This context's rows of the catalogue.
pub fn catalogue() -> Vec<Descriptor> {
    vec![
        describe::<Applied>(),
        describe::<Activated>(),
        describe::<Rejected>(),
        describe::<Suspended>(),
        describe::<Reinstated>(),
        describe::<Terminated>(),
        describe::<Updated>(),
    ]
}
