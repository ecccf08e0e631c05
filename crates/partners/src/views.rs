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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{application, day, reference, world};
    use crate::{Apply, PartnerAction};

    #[test]
    fn lists_meet_every_condition_page_by_page() {
        let world = world();
        let mut ids = Vec::new();
        for number in 0..5 {
            world.set_day(number);
            let kind = if number % 2 == 0 { PartnerKind::Affiliate } else { PartnerKind::Company };
            let external_refs = vec![reference("s", &number.to_string())];
            ids.push(world.apply(&Apply { kind, external_refs, ..application("A") }).unwrap().id);
        }
        world.change(ids[2], PartnerAction::Activate).unwrap();
        let page = Page { include_total: true, ..Page::first(500) };
        let found = |filter: PartnerFilter| -> Vec<usize> {
            let paged = world.read(|reader| list(reader, &filter, &page));
            assert_eq!(paged.total, i64::try_from(paged.items.len()).ok());
            let place = |partner: &PartnerView| ids.iter().position(|id| *id == partner.id).unwrap();
            paged.items.iter().map(place).collect()
        };
        let all = PartnerFilter::default;
        assert_eq!(found(all()), [0, 1, 2, 3, 4]);
        assert_eq!(found(PartnerFilter { state: Some(PartnerState::Applied), ..all() }), [0, 1, 3, 4]);
        assert_eq!(found(PartnerFilter { kind: Some(PartnerKind::Company), ..all() }), [1, 3]);
        let dated = PartnerFilter { created_from: Some(day(1)), created_to: Some(day(3)), ..all() };
        assert_eq!(found(dated), [1, 2]);
        assert_eq!(found(PartnerFilter { external_ref: Some(reference("s", "3")), ..all() }), [3]);
        assert_eq!(found(PartnerFilter { external_ref: Some(reference("s", "9")), ..all() }), [0; 0]);
        let both = PartnerFilter {
            external_ref: Some(reference("s", "3")),
            state: Some(PartnerState::Active),
            ..PartnerFilter::default()
        };
        assert_eq!(found(both), [0; 0]);

        let first = world.read(|reader| list(reader, &PartnerFilter::default(), &Page::first(3)));
        assert_eq!((first.items.len(), first.next), (3, Some(*ids[2].as_bytes())));
        let rest = Page { after: first.next, ..Page::first(3) };
        let rest = world.read(|reader| list(reader, &PartnerFilter::default(), &rest));
        assert_eq!(rest.items.iter().map(|partner| partner.id).collect::<Vec<_>>(), ids[3..]);
        assert_eq!(rest.next, None);
    }

    /// What the API answers; a stored partner must decode for ever.
    #[test]
    fn the_shape_of_a_partner_is_kept() {
        let text = r#"{"id":"ptr_01040g2081040g2081040g2081","kind":"affiliate","state":"suspended","name":"Ana","email":"a@example.org",
            "country":"CO","external_refs":[{"system":"s","id":"1"}],"metadata":{"a":1},"provisional":false,
            "inactive":[{"from":"2026-01-31T12:00:00Z"}],"created_at":"2026-01-31T12:00:00Z",
            "updated_at":"2026-01-31T12:00:00Z","version":3}"#;
        let partner: PartnerView = serde_json::from_str(text).unwrap();
        let stored: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&partner).unwrap(), stored);
    }
}
