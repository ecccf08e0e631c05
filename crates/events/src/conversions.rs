//! What `conversions` tells: the facts as recorded, and who is credited. Customers appear only as a keyed digest.

use kernel::{
    Amount, CampaignId, ConversionId, Currency, Descriptor, Key, Money, PartnerId, RefundId, Timestamp, TouchId,
    describe,
};
use serde::{Deserialize, Serialize};

use crate::campaigns::Terms;
use crate::{event, fixed};

kernel::names! {
    /// What a conversion is.
    pub enum ConversionKind {
        /// A purchase.
        Sale = "sale",
        /// An interested person.
        Lead = "lead",
        /// A click that is paid for.
        Click = "click",
    }
}

kernel::names! {
    /// The state of a conversion.
    pub enum ConversionState {
        /// Recorded, not decided yet (or parked).
        Recorded = "recorded",
        /// A partner is credited.
        Attributed = "attributed",
        /// Nobody is credited (so far).
        Unattributed = "unattributed",
        /// It does not count; the reason says why.
        Rejected = "rejected",
    }
}

kernel::names! {
    /// Why a refund came.
    pub enum RefundKind {
        /// The merchant gave money back.
        Refund = "refund",
        /// The bank took money back.
        Chargeback = "chargeback",
        /// The order was cancelled.
        Cancellation = "cancellation",
        /// A chargeback was won back: restores in proportion.
        ChargebackReversed = "chargeback_reversed",
    }
}

kernel::names! {
    /// The rules of attribution, in order of precedence.
    pub enum Rule {
        /// A person decided.
        Operator = "operator",
        /// The conversion names the partner.
        Partner = "partner",
        /// The conversion carries a code.
        Code = "code",
        /// The conversion carries a click id.
        Click = "click",
        /// The customer's touch, by the campaign's policy.
        Touch = "touch",
    }
}

/// A customer without the name: a digest that is keyed per installation, 32 hexadecimal digits.
pub type CustomerKey = String;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// What was sold, for terms that depend on it.
    pub category: Key,
    /// Minor units in the conversion's currency, zero or more.
    #[schema(minimum = 0)]
    pub amount_minor: i64,
}

/// A touch was recorded: a customer met a partner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TouchRecorded {
    /// The touch.
    pub touch_id: TouchId,
    /// Natural key: the system that tells it.
    pub source: Key,
    /// Natural key: its id there.
    pub external_id: Key,
    /// The campaign, as named by the client.
    pub campaign_id: String,
    /// The partner, as named by the client.
    pub partner_id: String,
    /// The customer.
    pub customer: CustomerKey,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// The id of the click.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click_id: Option<Key>,
}
event!(
    TouchRecorded,
    "conversions.touch_recorded.v1",
    "touch",
    touch_id,
    "A customer met a partner.",
    TouchRecorded {
        touch_id: fixed::id(4),
        source: key("shop"),
        external_id: key("t-1"),
        campaign_id: CampaignId::from_bytes([2; 16]).to_string(),
        partner_id: PartnerId::from_bytes([1; 16]).to_string(),
        customer: "00112233445566778899aabbccddeeff".to_owned(),
        occurred_at: fixed::time(0),
        click_id: Some(key("click-1")),
    }
);

/// A conversion was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Recorded {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// Natural key: the system that tells it.
    pub source: Key,
    /// Natural key: its id there.
    pub external_id: Key,
    /// What it is.
    pub kind: ConversionKind,
    /// The campaign, as named by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// The partner, as named by the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<String>,
    /// The click id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub click_id: Option<Key>,
    /// The code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Key>,
    /// The customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerKey>,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// What it is worth.
    pub amount: Amount,
    /// The lines, if they were told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
}
event!(
    Recorded,
    "conversions.recorded.v1",
    "conversion",
    conversion_id,
    "A conversion was recorded.",
    Recorded {
        conversion_id: fixed::id(5),
        source: key("shop"),
        external_id: key("order-1"),
        kind: ConversionKind::Sale,
        campaign_id: Some(CampaignId::from_bytes([2; 16]).to_string()),
        partner_id: None,
        click_id: None,
        code: Some(key("SUMMER")),
        customer: Some("00112233445566778899aabbccddeeff".to_owned()),
        occurred_at: fixed::time(60),
        amount: Amount::new(Money::new(11_77, Currency::USD)).expect("not negative"),
        lines: Vec::new(),
    }
);

/// A refund, chargeback, cancellation or reversal was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefundRecorded {
    /// The refund.
    pub refund_id: RefundId,
    /// Natural key: the system that tells it.
    pub source: Key,
    /// Natural key: its id there.
    pub external_id: Key,
    /// Natural key of the conversion: the system.
    pub conversion_source: Key,
    /// Natural key of the conversion: the id there.
    pub conversion_external_id: Key,
    /// Why.
    pub kind: RefundKind,
    /// How much; absent: the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<Amount>,
    /// When it happened.
    pub occurred_at: Timestamp,
}
event!(
    RefundRecorded,
    "conversions.refund_recorded.v1",
    "refund",
    refund_id,
    "A refund, chargeback, cancellation or reversal was recorded.",
    RefundRecorded {
        refund_id: fixed::id(6),
        source: key("shop"),
        external_id: key("r-1"),
        conversion_source: key("shop"),
        conversion_external_id: key("order-1"),
        kind: RefundKind::Refund,
        amount: Some(Amount::new(Money::new(5_89, Currency::USD)).expect("not negative")),
        occurred_at: fixed::time(120),
    }
);

/// How much of a conversion has been taken back so far (rules section 6).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refunds {
    /// min(amount, sum of the refunds less what was won back), minor units.
    pub refunded_minor: i64,
    /// The whole is taken back: nothing of the commission is kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
    /// The part of the sum above the amount, minor units: listed, without effect.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub excess_minor: i64,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// A candidate of a decision, and why it won or lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Candidate {
    /// The rule that proposed it.
    pub rule: Rule,
    /// The partner, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// The touch that proposed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_id: Option<TouchId>,
    /// `won`, or why it lost: `campaign_unknown` (nothing says which campaign), `code_unknown`, `click_unknown`,
    /// `outside_window`, `outside_campaign` or `campaign_paused` (when the touch occurred), `partner_not_active`,
    /// `partner_not_enrolled`, `other_campaign`, `later_rule` (a rule before it won), `later_touch` (another touch won).
    pub outcome: String,
}

/// A partner is credited with a conversion. Carries everything that the commission is computed from, but the terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Attributed {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// The decision's number: 1, 2, 3, …
    pub decision: u32,
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The partner.
    pub partner_id: PartnerId,
    /// The rule that decided.
    pub rule: Rule,
    /// What the conversion is.
    pub kind: ConversionKind,
    /// When it happened: decides the terms.
    pub occurred_at: Timestamp,
    /// When it became known: the hold counts from here.
    pub recorded_at: Timestamp,
    /// What it is worth.
    pub amount: Amount,
    /// The lines, if they were told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Line>,
    /// The customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<CustomerKey>,
    /// Whether it is the customer's first sale in the campaign, as far as is known.
    pub first_purchase: bool,
    /// What has been taken back so far.
    pub refunds: Refunds,
    /// One-off terms that an operator sent with the conversion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms: Option<Terms>,
    /// Everyone who could have been credited.
    pub candidates: Vec<Candidate>,
}
event!(
    Attributed,
    "conversions.attributed.v1",
    "conversion",
    conversion_id,
    "A partner is credited with a conversion.",
    Attributed {
        conversion_id: fixed::id(5),
        decision: 1,
        campaign_id: fixed::id(2),
        partner_id: fixed::id(1),
        rule: Rule::Code,
        kind: ConversionKind::Sale,
        occurred_at: fixed::time(60),
        recorded_at: fixed::time(61),
        amount: Amount::new(Money::new(11_77, Currency::USD)).expect("not negative"),
        lines: Vec::new(),
        customer: Some("00112233445566778899aabbccddeeff".to_owned()),
        first_purchase: true,
        refunds: Refunds::default(),
        terms: None,
        candidates: vec![Candidate {
            rule: Rule::Code,
            partner_id: Some(fixed::id(1)),
            touch_id: None,
            outcome: "won".to_owned()
        }],
    }
);

/// Nobody is credited with a conversion, so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Unattributed {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// The decision's number.
    pub decision: u32,
    /// The campaign, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// Everyone who could have been credited, and why not.
    pub candidates: Vec<Candidate>,
}
event!(
    Unattributed,
    "conversions.unattributed.v1",
    "conversion",
    conversion_id,
    "Nobody is credited with a conversion, so far.",
    Unattributed {
        conversion_id: fixed::id(5),
        decision: 1,
        campaign_id: Some(fixed::id(2)),
        candidates: vec![Candidate {
            rule: Rule::Code,
            partner_id: None,
            touch_id: None,
            outcome: "code_unknown".to_owned()
        }],
    }
);

/// A conversion does not count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Rejected {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// The decision's number.
    pub decision: u32,
    /// `outside_campaign`, `campaign_paused`, `currency_mismatch`.
    pub reason: String,
}
event!(
    Rejected,
    "conversions.rejected.v1",
    "conversion",
    conversion_id,
    "A conversion does not count.",
    Rejected { conversion_id: fixed::id(5), decision: 1, reason: "outside_campaign".to_owned() }
);

/// What has been taken back of a conversion changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Refunded {
    /// The conversion.
    pub conversion_id: ConversionId,
    /// The refund that changed it.
    pub refund_id: RefundId,
    /// Why it came.
    pub kind: RefundKind,
    /// What the conversion is worth.
    pub amount: Amount,
    /// What has been taken back so far, this refund included.
    pub refunds: Refunds,
    /// When the refund became known, which may be long before its effect: decides whether it counts at the hold's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
}
event!(
    Refunded,
    "conversions.refunded.v1",
    "conversion",
    conversion_id,
    "What has been taken back of a conversion changed.",
    Refunded {
        conversion_id: fixed::id(5),
        refund_id: fixed::id(6),
        kind: RefundKind::Refund,
        amount: Amount::new(Money::new(11_77, Currency::USD)).expect("not negative"),
        refunds: Refunds { refunded_minor: 589, whole: false, excess_minor: 0 },
        recorded_at: None,
    }
);

/// A refund has no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RefundRejected {
    /// The refund.
    pub refund_id: RefundId,
    /// `refund_exceeds_conversion`, `currency_mismatch`.
    pub reason: String,
}
event!(
    RefundRejected,
    "conversions.refund_rejected.v1",
    "refund",
    refund_id,
    "A refund has no effect.",
    RefundRejected { refund_id: fixed::id(6), reason: "refund_exceeds_conversion".to_owned() }
);

/// A fact named a partner or a campaign that is not known; the policy asks for a provisional one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReferenceMissing {
    /// `partner` or `campaign`.
    pub kind: String,
    /// The name that the fact used: `system:id`.
    pub reference: String,
    /// The currency of the fact, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
}
event!(
    ReferenceMissing,
    "conversions.reference_missing.v1",
    "reference",
    reference,
    "A fact named a partner or campaign that is not known.",
    ReferenceMissing { kind: "partner".to_owned(), reference: "shopify:77".to_owned(), currency: None }
);

fn key(text: &str) -> Key {
    Key::new(text).expect("a valid key")
}

/// This context's rows of the catalogue.
pub fn catalogue() -> Vec<Descriptor> {
    vec![
        describe::<TouchRecorded>(),
        describe::<Recorded>(),
        describe::<RefundRecorded>(),
        describe::<Attributed>(),
        describe::<Unattributed>(),
        describe::<Rejected>(),
        describe::<Refunded>(),
        describe::<RefundRejected>(),
        describe::<ReferenceMissing>(),
    ]
}
