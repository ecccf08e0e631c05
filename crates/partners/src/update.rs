//! A partner's data change.

use events::partners::Updated;
use kernel::{Email, Fault, Label, NewEvent, PartnerId, Reference, Result};
use platform::Tx;
use serde::{Deserialize, Deserializer};

use crate::country::Country;
use crate::store;
use crate::views::PartnerView;

/// Changes a partner's data. What is absent stays as it is.
#[derive(Debug, Clone, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// Its name, for people. A provisional partner that is given a name is no longer provisional.
    pub name: Option<Label>,
    /// Its e-mail address; null removes it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Email>)]
    pub email: Option<Option<Email>>,
    /// Where it is based; null removes it.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<Country>)]
    pub country: Option<Option<Country>>,
    /// All external references after the change. They are only added to: facts may have been credited by those that
    /// are there.
    #[schema(max_items = 20)]
    pub external_refs: Option<Vec<Reference>>,
    /// All metadata after the change; at most 16 KiB as JSON.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Tells a null from what is absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Update {
    /// Writes the changes and tells `partners.updated.v1`, if there are any. Faults: `partner_not_found`,
    /// `email_taken`, `partner_reference_taken`, `invalid`.
    pub fn run(&self, tx: &mut Tx<'_>, id: PartnerId) -> Result<PartnerView> {
        let before = store::load(tx, id)?;
        let mut partner = before.clone();
        if let Some(name) = &self.name {
            partner.name = name.clone();
            partner.provisional = false;
        }
        if let Some(email) = &self.email {
            if let Some(email) = email {
                store::check_email(tx, id, partner.kind, email)?;
            }
            partner.email.clone_from(email);
        }
        if let Some(country) = self.country {
            partner.country = country;
        }
        if let Some(references) = &self.external_refs {
            store::check_references(tx, id, references)?;
            if let Some(missing) = before.external_refs.iter().find(|reference| !references.contains(reference)) {
                let detail = format!("{missing} is missing: external references are only added to");
                return Err(Fault::at(&kernel::problems::INVALID, "/external_refs", detail));
            }
            partner.external_refs.clone_from(references);
        }
        if let Some(metadata) = &self.metadata {
            store::check_metadata(metadata)?;
            partner.metadata.clone_from(metadata);
        }
        if partner == before {
            return Ok(before);
        }
        store::save(tx, &mut partner)?;
        let event = Updated { partner_id: id, external_refs: partner.external_refs.clone() };
        tx.publish(&[NewEvent::of(&event)])?;
        Ok(partner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Apply;
    use crate::testing::{World, application, day, email, label, reference, world};

    fn update(world: &World, id: PartnerId, json: &str) -> Result<PartnerView> {
        let update: Update = serde_json::from_str(json).unwrap();
        world.write(|tx| update.run(tx, id))
    }

    #[test]
    fn what_is_absent_stays_and_null_removes() {
        let world = world();
        let apply = Apply { email: Some(email("a@example.org")), ..application("A") };
        let before = world.apply(&apply).unwrap();
        world.set_day(1);
        let after = update(&world, before.id, r#"{"name": "B", "country": "PE"}"#).unwrap();
        assert_eq!((&after.name, &after.email, after.version), (&label("B"), &before.email, 2));
        assert_eq!((after.created_at, after.updated_at), (day(0), day(1)));
        let after = update(&world, before.id, r#"{"email": null, "country": null}"#).unwrap();
        assert_eq!((after.email, after.country, after.version), (None, None, 3));
        assert_eq!(world.types_after(1), ["partners.updated.v1"; 2]);
        // The address is free again.
        world.apply(&apply).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn nothing_changed_is_not_told() {
        let world = world();
        let apply = Apply { email: Some(email("a@example.org")), ..application("A") };
        let before = world.apply(&apply).unwrap();
        world.set_day(1);
        let after = update(&world, before.id, r#"{"name": "A", "email": "a@example.org", "external_refs": []}"#);
        assert_eq!(after.unwrap(), before);
        assert_eq!(update(&world, before.id, "{}").unwrap(), before);
        assert_eq!(world.db.head(), 1);
    }

    #[test]
    fn an_email_address_of_another_is_refused_and_ones_own_can_change_its_case() {
        let world = world();
        world.apply(&Apply { email: Some(email("a@example.org")), ..application("A") }).unwrap();
        let second = world.apply(&Apply { email: Some(email("b@example.org")), ..application("B") }).unwrap();
        assert_eq!(update(&world, second.id, r#"{"email": "A@example.org"}"#).unwrap_err().code(), "email_taken");
        update(&world, second.id, r#"{"email": "B@example.org"}"#).unwrap();
        let unknown = PartnerId::from_bytes([9; 16]);
        assert_eq!(update(&world, unknown, "{}").unwrap_err().code(), "partner_not_found");
    }

    #[test]
    fn references_are_only_added_to() {
        let world = world();
        let first = world.apply(&Apply { external_refs: vec![reference("a", "1")], ..application("A") }).unwrap();
        let second = world.apply(&Apply { external_refs: vec![reference("a", "2")], ..application("B") }).unwrap();
        let taken = r#"{"external_refs": [{"system": "a", "id": "1"}, {"system": "a", "id": "2"}]}"#;
        assert_eq!(update(&world, first.id, taken).unwrap_err().code(), "partner_reference_taken");
        let fault = update(&world, first.id, r#"{"external_refs": []}"#).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", "/external_refs"));
        let more = r#"{"external_refs": [{"system": "b", "id": "1"}, {"system": "a", "id": "1"}]}"#;
        let after = update(&world, first.id, more).unwrap();
        assert_eq!((world.named("a:1"), world.named("b:1")), (Some(first.id), Some(first.id)));
        assert_eq!(world.named("a:2"), Some(second.id));
        let told: Updated = world.events_after(2)[0].decode().unwrap();
        assert_eq!(told.external_refs, after.external_refs);
        assert_eq!(world.differences(), Vec::<String>::new());
    }
}
