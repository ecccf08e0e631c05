//! The facts as clients send them. Their doc comments are the API's documentation.

use events::campaigns::Terms;
use events::conversions::{ConversionKind, Line, RefundKind};
use kernel::{Amount, Key, Reason, Timestamp};
use serde::{Deserialize, Serialize};

use crate::model::named::{CampaignName, PartnerName};

/// A customer met a partner: followed a link, saw a post, used a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTouch {
    /// The system that tells it. With `external_id` the fact's natural key, unique for ever among touches.
    pub source: Key,
    /// Its id there.
    pub external_id: Key,
    /// The campaign.
    pub campaign_id: CampaignName,
    /// The partner.
    pub partner_id: PartnerName,
    /// Who the customer is in your systems. Never shown in events.
    pub customer_ref: Key,
    /// What happened, in your words: `click`, `view`.
    pub kind: Key,
    /// When it happened; at most a day from now.
    pub occurred_at: Timestamp,
    /// The id of the click, if a conversion may name it.
    #[serde(default)]
    pub click_id: Option<Key>,
}

/// Something that may earn a commission: a sale, a lead, a click.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewConversion {
    /// The system that tells it. With `external_id` the fact's natural key, unique for ever among conversions.
    pub source: Key,
    /// Its id there.
    pub external_id: Key,
    /// What it is.
    #[serde(default = "sale")]
    pub kind: ConversionKind,
    /// The campaign; absent: that of the code, of the click, or of the customer's latest touch.
    #[serde(default)]
    pub campaign_id: Option<CampaignName>,
    /// The partner to be credited, before code, click and touches.
    #[serde(default)]
    pub partner_id: Option<PartnerName>,
    /// The id of the click that led here.
    #[serde(default)]
    pub click_id: Option<Key>,
    /// The code that the customer used.
    #[serde(default)]
    pub code: Option<Key>,
    /// Who the customer is in your systems. Never shown in events.
    #[serde(default)]
    pub customer_ref: Option<Key>,
    /// When it happened; at most a day from now.
    pub occurred_at: Timestamp,
    /// What it is worth, in the campaign's currency.
    pub amount: Amount,
    /// The lines of the order, if the terms look at categories; they add up to `amount`. At most 500.
    #[serde(default)]
    #[schema(max_items = 500)]
    pub lines: Vec<Line>,
    /// Anything of yours; at most 16,384 bytes of JSON. Never shown in events.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// One-off terms instead of the campaign's; needs the scope `terms:override`.
    #[serde(default)]
    pub terms: Option<Terms>,
}

const fn sale() -> ConversionKind {
    ConversionKind::Sale
}

/// A refund, a chargeback, a cancellation, or a chargeback that was won back. May come before its conversion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRefund {
    /// The system that tells it. With `external_id` the fact's natural key, unique for ever among refunds.
    pub source: Key,
    /// Its id there.
    pub external_id: Key,
    /// The conversion's source; absent: the same as this fact's.
    #[serde(default)]
    pub conversion_source: Option<Key>,
    /// The conversion's external id.
    pub conversion_external_id: Key,
    /// When it happened; at most a day from now.
    pub occurred_at: Timestamp,
    /// How much; absent: the whole amount of the conversion.
    #[serde(default)]
    pub amount: Option<Amount>,
    /// Why, in your words. Never shown in events.
    pub reason: Reason,
    /// What it is.
    pub kind: RefundKind,
}

impl NewRefund {
    /// The source of its conversion.
    pub(crate) fn conversion_source(&self) -> &Key {
        self.conversion_source.as_ref().unwrap_or(&self.source)
    }
}

/// A fact on its way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// A customer met a partner.
    Touch(NewTouch),
    /// A sale, a lead, a click.
    Conversion(NewConversion),
    /// Money that was taken back, or won back.
    Refund(NewRefund),
}
