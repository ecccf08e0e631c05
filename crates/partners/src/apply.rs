//! A partner applies.

use events::partners::{Applied, PartnerKind};
use kernel::{Email, Label, NewEvent, Reference, Result};
use platform::Tx;
use serde::Deserialize;

use crate::country::Country;
use crate::model::life::APPLIED;
use crate::store;
use crate::views::PartnerView;

/// A partner applies. Facts that name it wait until it is activated or rejected.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// What it is.
    pub kind: PartnerKind,
    /// Its name, for people.
    pub name: Label,
    /// Its e-mail address: unique among partners of the kind, whatever the case of its letters.
    #[serde(default)]
    pub email: Option<Email>,
    /// Where it is based.
    #[serde(default)]
    pub country: Option<Country>,
    /// What other systems call it: each names one partner, for ever. A system's name has no colon, because facts name
    /// a partner as `system:id`.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub external_refs: Vec<Reference>,
    /// Whatever is to be kept with it; at most 16 KiB as JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Apply {
    /// Writes the application and tells `partners.applied.v1`. Faults: `email_taken`, `partner_reference_taken`,
    /// `invalid`.
    pub fn run(&self, tx: &mut Tx<'_>) -> Result<PartnerView> {
        let partner = PartnerView {
            id: tx.new_id(),
            kind: self.kind,
            state: APPLIED.state,
            name: self.name.clone(),
            email: self.email.clone(),
            country: self.country,
            external_refs: self.external_refs.clone(),
            metadata: self.metadata.clone().unwrap_or_default(),
            provisional: false,
            inactive: APPLIED.inactive,
            created_at: tx.now(),
            updated_at: tx.now(),
            version: 1,
        };
        store::check_references(tx, partner.id, &partner.external_refs)?;
        store::check_metadata(&partner.metadata)?;
        if let Some(email) = &partner.email {
            store::check_email(tx, partner.id, partner.kind, email)?;
        }
        store::insert(tx, std::slice::from_ref(&partner))?;
        tx.publish(&[NewEvent::of(&applied(&partner))])?;
        Ok(partner)
    }
}

pub(crate) fn applied(partner: &PartnerView) -> Applied {
    Applied {
        partner_id: partner.id,
        kind: partner.kind,
        provisional: partner.provisional,
        external_refs: partner.external_refs.clone(),
    }
}
