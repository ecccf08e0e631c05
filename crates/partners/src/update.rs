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
