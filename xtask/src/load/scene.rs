//! What every run needs first: active partners, and an active campaign in which each has a code.

use super::control::Control;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Partners of a scene, with codes `P01` and so on.
pub(crate) const PARTNERS: u64 = 12;
/// When every conversion of a run happened.
pub(crate) const OCCURRED_AT: &str = "2026-03-01T12:00:00Z";
const STARTS_AT: &str = "2026-01-01T00:00:00Z";

/// A server that is ready for conversions.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) control: Control,
    pub(crate) campaign_id: String,
    pub(crate) partner_ids: Vec<String>,
}

impl Scene {
    /// Creates partners and campaign on a fresh database. Commissions up to 10.00 USD are approved when their hold
    /// of `hold_days` has ended.
    ///
    /// # Errors
    /// When the server refuses anything.
    pub(crate) fn create(control: Control, hold_days: u32) -> Result<Self> {
        let campaign = json!({
            "name": "Bench", "currency": "USD", "starts_at": STARTS_AT,
            "attribution": {"model": "last_touch", "window_days": 30},
            "terms": {
                "components": [{"type": "percent", "basis_points": 800}],
                "hold_days": hold_days, "auto_approve_up_to_minor": 1000,
            },
        });
        let campaign_id = id(&control.post("/v1/campaigns", &campaign)?)?;
        let mut partner_ids = Vec::new();
        for number in 1..=PARTNERS {
            let partner = partner(&format!("Partner {number}"), &format!("partner{number}@example.com"));
            let partner_id = id(&control.post("/v1/partners", &partner)?)?;
            control.post(&format!("/v1/partners/{partner_id}/activate"), &json!({}))?;
            let enrollment = json!({"partner_id": partner_id, "code": format!("P{number:02}")});
            control.post(&format!("/v1/campaigns/{campaign_id}/enrollments"), &enrollment)?;
            partner_ids.push(partner_id);
        }
        control.post(&format!("/v1/campaigns/{campaign_id}/activate"), &json!({}))?;
        Ok(Self { control, campaign_id, partner_ids })
    }
}

/// The body of a new partner.
pub(crate) fn partner(name: &str, email: &str) -> Value {
    json!({"kind": "affiliate", "name": name, "email": email})
}

/// The id in a reply.
///
/// # Errors
/// When it has none.
pub(crate) fn id(reply: &Value) -> Result<String> {
    Ok(reply["id"].as_str().with_context(|| format!("no id in {reply}"))?.to_owned())
}
