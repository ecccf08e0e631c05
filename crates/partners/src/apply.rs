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

#[cfg(test)]
mod tests {
    use events::partners::PartnerState;

    use super::*;
    use crate::testing::{application, day, email, reference, world};
    use crate::views;

    #[test]
    fn an_application_is_stored_published_and_told_without_personal_data() {
        let world = world();
        let apply = Apply {
            email: Some(email("Ana@Example.org")),
            country: Some(Country::try_from("CO".to_owned()).unwrap()),
            external_refs: vec![reference("shopify", "77:a")],
            metadata: serde_json::from_str(r#"{"tier": 3}"#).unwrap(),
            ..application("Ana Torres")
        };
        let partner = world.apply(&apply).unwrap();
        assert_eq!((partner.state, partner.version, partner.created_at), (PartnerState::Applied, 1, day(0)));
        assert_eq!(partner.email, Some(email("Ana@Example.org")));
        assert_eq!(world.read(|reader| views::one(reader, partner.id)), partner);
        assert_eq!(world.profile(partner.id), Some(APPLIED));
        assert_eq!(world.named("shopify:77:a"), Some(partner.id));
        let told = world.events_after(0);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].decode::<Applied>().unwrap(), applied(&partner));
        assert_eq!(told[0].actor, "tester");
        for personal in ["Ana", "Torres", "example.org", "CO"] {
            assert!(!told[0].payload.contains(personal), "{}", told[0].payload);
        }
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn an_email_address_is_unique_per_kind_whatever_its_case() {
        let world = world();
        let with = |kind, address| Apply { kind, email: Some(email(address)), ..application("A") };
        world.apply(&with(PartnerKind::Affiliate, "A@example.org")).unwrap();
        for spelling in ["A@example.org", "a@example.org", "a@Example.ORG"] {
            let fault = world.apply(&with(PartnerKind::Affiliate, spelling)).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("email_taken", "/email"));
        }
        world.apply(&with(PartnerKind::Company, "a@example.org")).unwrap();
        world.apply(&with(PartnerKind::Affiliate, "b@example.org")).unwrap();
        // Any number of partners has none.
        world.apply(&application("B")).unwrap();
        world.apply(&application("C")).unwrap();
        assert_eq!(world.db.head(), 5);
    }

    #[test]
    fn an_external_reference_names_one_partner() {
        let world = world();
        let with = |references: &[Reference]| Apply { external_refs: references.to_vec(), ..application("A") };
        let first = world.apply(&with(&[reference("shopify", "1"), reference("awin", "1")])).unwrap();
        let fault = world.apply(&with(&[reference("awin", "2"), reference("awin", "1")])).unwrap_err();
        assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("partner_reference_taken", "/external_refs/1"));
        assert_eq!((world.named("awin:1"), world.named("awin:2")), (Some(first.id), None));
        world.apply(&with(&[reference("awin", "2")])).unwrap();
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let world = world();
        let references = |count: usize| (0..count).map(|n| reference("s", &n.to_string())).collect::<Vec<_>>();
        let long = "x".repeat(16_400);
        for (pointer, apply) in [
            ("/external_refs", Apply { external_refs: references(21), ..application("A") }),
            ("/external_refs", Apply { external_refs: vec![reference("s", "1"); 2], ..application("A") }),
            ("/external_refs/0/system", Apply { external_refs: vec![reference("a:b", "1")], ..application("A") }),
            (
                "/metadata",
                Apply { metadata: serde_json::from_value(serde_json::json!({"a": long})).unwrap(), ..application("A") },
            ),
        ] {
            let fault = world.apply(&apply).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), ("invalid", pointer));
        }
        world.apply(&Apply { external_refs: references(20), ..application("A") }).unwrap();
        assert_eq!(world.db.head(), 1);
    }

    #[test]
    fn a_request_with_unknown_or_misleading_fields_is_not_read() {
        for bad in [
            r#"{"kind": "affiliate", "name": "A", "state": "active"}"#,
            r#"{"kind": "robot", "name": "A"}"#,
            r#"{"kind": "affiliate", "name": ""}"#,
            r#"{"kind": "affiliate", "name": "A", "email": "a"}"#,
            r#"{"kind": "affiliate", "name": "A", "country": "co"}"#,
            r#"{"name": "A"}"#,
        ] {
            assert!(serde_json::from_str::<Apply>(bad).is_err(), "{bad}");
        }
        let least: Apply = serde_json::from_str(r#"{"kind": "affiliate", "name": "A"}"#).unwrap();
        assert!(least.email.is_none() && least.external_refs.is_empty());
    }
}
