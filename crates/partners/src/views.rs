//! What is shown of partners: one, or a list.

use events::partners::{Inactive, PartnerKind, PartnerProfile, PartnerReference, PartnerState};
use kernel::{Email, Fault, Label, PartnerId, Reference, Result, Timestamp};
use platform::{Listing, Page, Paged, Reader, published};
use serde::{Deserialize, Serialize};

use crate::country::Country;
use crate::problems;

/// A partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PartnerView {
    /// Its id.
    pub id: PartnerId,
    /// What it is.
    pub kind: PartnerKind,
    /// Where it is in its life.
    pub state: PartnerState,
    /// Its name, for people.
    pub name: Label,
    /// Its e-mail address, as it was written.
    pub email: Option<Email>,
    /// Where it is based.
    pub country: Option<Country>,
    /// What other systems call it.
    pub external_refs: Vec<Reference>,
    /// Whatever its owner wants to keep with it.
    #[schema(value_type = Object)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// Created on behalf of a fact that named it by an external reference, and not given a name since.
    pub provisional: bool,
    /// The spans in which it may not earn: `from` included, `to` excluded, open without `to`.
    pub inactive: Vec<Inactive>,
    /// When it applied.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// 1, 2, 3, …: grows with every change.
    pub version: i64,
}

impl PartnerView {
    /// What other contexts may know of it.
    pub(crate) fn profile(&self) -> PartnerProfile {
        PartnerProfile { state: self.state, inactive: self.inactive.clone() }
    }
}

/// Which partners are listed: those that meet every condition that is there.
#[derive(Debug, Clone, Default)]
pub struct PartnerFilter {
    /// In this state.
    pub state: Option<PartnerState>,
    /// Of this kind.
    pub kind: Option<PartnerKind>,
    /// With this external reference.
    pub external_ref: Option<Reference>,
    /// Created at or after.
    pub created_from: Option<Timestamp>,
    /// Created before.
    pub created_to: Option<Timestamp>,
}

/// The partner. Fault: `partner_not_found`.
pub fn one(reader: &Reader<'_>, id: PartnerId) -> Result<PartnerView> {
    let found = reader.query_one("SELECT doc FROM partner WHERE id = ?", &[(&id).into()], |row| row.json(0))?;
    found.ok_or_else(|| Fault::new(&problems::PARTNER_NOT_FOUND, format!("there is no partner {id}")))
}

/// A page of partners, in the order of their creation.
pub fn list(reader: &Reader<'_>, filter: &PartnerFilter, page: &Page) -> Result<Paged<PartnerView>> {
    let mut named: Option<PartnerId> = None;
    if let Some(reference) = &filter.external_ref {
        let found: Option<PartnerReference> = published::get_one(reader, reference.to_string().as_bytes())?;
        let Some(found) = found else {
            return Ok(Paged { items: Vec::new(), next: None, total: page.include_total.then_some(0) });
        };
        named = Some(found.partner_id);
    }
    Listing::of("partner", "id, doc")
        .when("state = ?", filter.state.map(PartnerState::as_str))
        .when("kind = ?", filter.kind.map(PartnerKind::as_str))
        .when("id = ?", named.as_ref())
        .when("created_at >= ?", filter.created_from)
        .when("created_at < ?", filter.created_to)
        .page(reader, page, |row| row.json(1))
}
