//! How a fact names a partner or a campaign: by our id, or by what another system calls it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A partner or a campaign, by our id or by another system's reference `system:id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named<I> {
    /// Our id.
    Id(I),
    /// `system:id`.
    Reference(String),
}

/// How a fact names a campaign.
pub type CampaignName = Named<kernel::CampaignId>;
/// How a fact names a partner.
pub type PartnerName = Named<kernel::PartnerId>;

/// A system and its id are keys of at most 200 characters each.
const LONGEST_REFERENCE: usize = 401;

impl<I: FromStr> FromStr for Named<I> {
    type Err = String;

    /// Reads our id (prefixed or a bare UUID) or a reference `system:id`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let expected = || "expected an id, a UUID or an external reference like shopify:77".to_owned();
        if text.len() > LONGEST_REFERENCE * 4 {
            return Err(expected());
        }
        let (system, id) = text.split_once(':').ok_or_else(expected)?;
        kernel::Key::new(system).map_err(|error| format!("the system of the reference {error}"))?;
        kernel::Key::new(id).map_err(|error| format!("the id of the reference {error}"))?;
        Ok(Self::Reference(text.to_owned()))
    }
}

impl<I: fmt::Display> fmt::Display for Named<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Reference(text) => f.write_str(text),
        }
    }
}

impl<I: fmt::Display> Serialize for Named<I> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, I: FromStr> Deserialize<'de> for Named<I> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<I> utoipa::PartialSchema for Named<I> {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(3))
            .max_length(Some(LONGEST_REFERENCE))
            .description(Some("An id of ours, a bare UUID, or an external reference `system:id`"))
            .into()
    }
}

impl<I> utoipa::ToSchema for Named<I> {
    fn name() -> std::borrow::Cow<'static, str> {
        "IdOrReference".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernel::PartnerId;

    #[test]
    fn an_id_a_uuid_or_a_reference() {
        let id = PartnerId::from_bytes([7; 16]);
        assert_eq!(id.to_string().parse(), Ok(Named::Id(id)));
        assert_eq!(id.to_uuid().to_string().parse(), Ok(Named::Id(id)));
        assert_eq!("shopify:a:b".parse::<Named<PartnerId>>(), Ok(Named::Reference("shopify:a:b".to_owned())));
        for bad in ["", "nobody", ":1", "shopify:", "shop\u{202e}:1", &format!("s:{}", "x".repeat(10_240))] {
            assert!(bad.parse::<Named<PartnerId>>().is_err(), "{bad:?}");
        }
    }
}
