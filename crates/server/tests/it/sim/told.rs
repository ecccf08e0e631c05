//! The plan's facts and commands as the API takes them: JSON, with the ids that the product gave out.

use std::collections::BTreeMap;

use conversions::{Fact, NewConversion, NewRefund, NewTouch};
use kernel::{CampaignId, PartnerId, Timestamp};
use serde_json::{Value, json};

use super::plan::{DAY, FactRef, Naming, Plan, Told};
use super::reference::{Campaign, Component, Enrollment, Kind, Model, Rate, RefundKind, Terms};

/// What the product calls the plan's partners and campaigns.
#[derive(Default)]
pub(super) struct Names {
    pub(super) partners: BTreeMap<String, PartnerId>,
    pub(super) campaigns: BTreeMap<String, CampaignId>,
}

impl Names {
    fn of<K: kernel::IdKind>(known: &BTreeMap<String, kernel::Id<K>>, naming: Naming, name: &str) -> String {
        match (known.get(name), naming) {
            (Some(id), Naming::Id) => id.to_string(),
            (Some(id), Naming::BareUuid) => id.to_uuid().to_string(),
            _ => format!("crm:{name}"),
        }
    }

    /// The plan's name of a partner.
    pub(super) fn partner(&self, id: PartnerId) -> String {
        let found = self.partners.iter().find(|(_, known)| **known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }

    /// The plan's name of a campaign.
    pub(super) fn campaign(&self, id: CampaignId) -> String {
        let found = self.campaigns.iter().find(|(_, known)| **known == id);
        found.map_or_else(|| id.to_string(), |(name, _)| name.clone())
    }
}

pub(super) fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros)
}

fn time(micros: i64) -> Value {
    json!(at(micros).to_string())
}

/// Absent members instead of null ones.
fn object(members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    members.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The fact's body. Every delivery of a fact has the same one.
pub(super) fn body(plan: &Plan, names: &Names, told: &Told) -> Value {
    match told.fact {
        FactRef::Touch(index) => touch(plan, names, told, index),
        FactRef::Conversion(index) => conversion(plan, names, told, index),
        FactRef::Refund(index) => refund(plan, told, index),
    }
}

fn touch(plan: &Plan, names: &Names, told: &Told, index: usize) -> Value {
    let touch = &plan.world.touches[index];
    object([
        ("source", json!(touch.key.0)),
        ("external_id", json!(touch.key.1)),
        ("campaign_id", json!(Names::of(&names.campaigns, told.naming, &touch.campaign))),
        ("partner_id", json!(Names::of(&names.partners, told.naming, &touch.partner))),
        ("customer_ref", json!(touch.customer_ref)),
        ("kind", json!("click")),
        ("occurred_at", time(touch.occurred_at)),
        ("click_id", json!(touch.click_id)),
    ])
}

fn conversion(plan: &Plan, names: &Names, told: &Told, index: usize) -> Value {
    let conversion = &plan.world.conversions[index];
    let campaign = conversion.campaign.as_ref().map(|name| Names::of(&names.campaigns, told.naming, name));
    let partner = conversion.partner.as_ref().map(|name| Names::of(&names.partners, told.naming, name));
    let line = |category: &str, amount_minor: i64| json!({"category": category, "amount_minor": amount_minor});
    let lines: Vec<Value> = match &conversion.category {
        Some(category) => vec![line(category, conversion.amount_minor)],
        None => told.lines.iter().map(|(category, amount_minor)| line(category, *amount_minor)).collect(),
    };
    let one_off = told.one_off_basis_points.map(|basis_points| {
        json!({"components": [{"type": "percent", "basis_points": basis_points}], "hold_days": 3,
            "auto_approve_up_to_minor": 100})
    });
    object([
        ("source", json!(conversion.key.0)),
        ("external_id", json!(conversion.key.1)),
        ("kind", json!(kind(conversion.kind))),
        ("campaign_id", json!(campaign)),
        ("partner_id", json!(partner)),
        ("click_id", json!(conversion.click_id)),
        ("code", json!(conversion.code)),
        ("customer_ref", json!(conversion.customer_ref)),
        ("occurred_at", time(conversion.occurred_at)),
        ("amount", json!({"amount_minor": conversion.amount_minor, "currency": conversion.currency})),
        ("lines", if lines.is_empty() { Value::Null } else { json!(lines) }),
        ("terms", json!(one_off)),
    ])
}

fn refund(plan: &Plan, told: &Told, index: usize) -> Value {
    let refund = &plan.world.refunds[index];
    let amount = refund
        .amount
        .as_ref()
        .map(|(amount_minor, currency)| json!({"amount_minor": amount_minor, "currency": currency}));
    let kind = match refund.kind {
        RefundKind::Refund => "refund",
        RefundKind::Chargeback => "chargeback",
        RefundKind::Cancellation => "cancellation",
        RefundKind::ChargebackReversed => "chargeback_reversed",
    };
    object([
        ("source", json!(refund.key.0)),
        ("external_id", json!(refund.key.1)),
        ("conversion_source", json!(refund.conversion_source)),
        ("conversion_external_id", json!(refund.conversion_external_id)),
        ("occurred_at", time(told.refunded_at)),
        ("amount", json!(amount)),
        ("reason", json!("simulated")),
        ("kind", json!(kind)),
    ])
}

/// The body as the product's type.
pub(super) fn fact(fact: FactRef, body: &Value) -> Fact {
    let body = body.clone();
    let parsed = match fact {
        FactRef::Touch(_) => serde_json::from_value::<NewTouch>(body).map(Fact::Touch),
        FactRef::Conversion(_) => serde_json::from_value::<NewConversion>(body).map(Fact::Conversion),
        FactRef::Refund(_) => serde_json::from_value::<NewRefund>(body).map(Fact::Refund),
    };
    parsed.expect("the plan's facts are well formed")
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Sale => "sale",
        Kind::Lead => "lead",
        Kind::Click => "click",
    }
}

pub(super) fn apply(name: &str) -> Value {
    json!({"kind": "affiliate", "name": name, "external_refs": [{"system": "crm", "id": name}]})
}

pub(super) fn create(campaign: &Campaign, budget_minor: Option<i64>) -> Value {
    let model = match campaign.model {
        Model::Last => "last_touch",
        Model::First => "first_touch",
    };
    object([
        ("name", json!(campaign.id)),
        ("currency", json!(campaign.currency)),
        ("starts_at", time(campaign.starts_at)),
        ("ends_at", campaign.ends_at.map_or(Value::Null, time)),
        ("budget", json!(budget_minor.map(|minor| json!({"amount_minor": minor, "currency": campaign.currency})))),
        ("attribution", json!({"model": model, "window_days": campaign.window_micros / DAY})),
        ("terms", terms(&campaign.terms[0])),
        ("external_refs", json!([{"system": "crm", "id": campaign.id}])),
    ])
}

pub(super) fn publish(version: &Terms) -> Value {
    json!({"valid_from": time(version.valid_from), "terms": terms(version)})
}

pub(super) fn enroll(enrollment: &Enrollment, names: &Names) -> Value {
    object([
        ("partner_id", json!(names.partners[&enrollment.partner].to_string())),
        ("code", json!(enrollment.code)),
        ("from", enrollment.from.map_or(Value::Null, time)),
        ("to", enrollment.to.map_or(Value::Null, time)),
    ])
}

pub(super) fn terms(terms: &Terms) -> Value {
    object([
        ("components", terms.components.iter().map(component).collect()),
        ("cap_minor", json!(terms.cap_minor)),
        ("hold_days", json!(terms.hold_micros / DAY)),
        ("auto_approve_up_to_minor", json!(terms.auto_approve_up_to_minor)),
    ])
}

fn component(component: &Component) -> Value {
    let conditions = object([
        ("kinds", component.kinds.iter().map(|wanted| kind(*wanted)).collect()),
        ("categories", component.category.iter().map(String::as_str).collect()),
        ("minimum_amount_minor", json!(component.minimum_minor)),
    ]);
    match component.rate {
        Rate::PercentBasisPoints(basis_points) => {
            json!({"type": "percent", "basis_points": basis_points, "conditions": conditions})
        }
        Rate::FlatMinor(amount_minor) => {
            json!({"type": "flat", "amount_minor": amount_minor, "conditions": conditions})
        }
        Rate::FirstPurchaseBonusMinor(amount_minor) => {
            json!({"type": "first_purchase_bonus", "amount_minor": amount_minor, "conditions": conditions})
        }
    }
}
