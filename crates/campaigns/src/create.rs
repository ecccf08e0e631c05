//! A campaign is created, as a draft.

use events::campaigns::{AttributionPolicy, BudgetChanged, Created, Terms, TermsVersion};
use kernel::{Amount, Currency, Key, Label, NewEvent, PartnerId, Reference, Result, Timestamp};
use platform::Tx;
use serde::Deserialize;

use crate::model::life::DRAFT;
use crate::store;
use crate::terms;
use crate::views::CampaignView;

/// Creates a campaign, as a draft. Facts that name it wait until it is activated or cancelled.
#[derive(Debug, Clone, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Create {
    /// Its name, for people.
    pub name: Label,
    /// What it is, in your own words.
    #[serde(default)]
    pub kind: Option<Key>,
    /// The currency of its conversions and commissions.
    pub currency: Currency,
    /// Conversions count from here on; may lie in the past.
    pub starts_at: Timestamp,
    /// Conversions count before this; absent: without a planned end.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
    /// At most this much is committed in commissions; absent: no limit.
    #[serde(default)]
    pub budget: Option<Amount>,
    /// How touches are matched with conversions; absent: the last touch in 30 days.
    #[serde(default)]
    pub attribution: AttributionPolicy,
    /// What is earned: version 1, valid from `starts_at`.
    pub terms: Terms,
    /// The partner that runs it, if it is one.
    #[serde(default)]
    pub owner_partner_id: Option<PartnerId>,
    /// Words to find it by.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub tags: Vec<Key>,
    /// What other systems call it: each names one campaign, for ever. A system's name has no colon, because facts name
    /// a campaign as `system:id`.
    #[serde(default)]
    #[schema(max_items = 20)]
    pub external_refs: Vec<Reference>,
    /// Whatever is to be kept with it; at most 16 KiB as JSON.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Create {
    /// Writes the draft and tells `campaigns.created.v1`, `campaigns.terms_published.v1` and, with a budget,
    /// `campaigns.budget_changed.v1`. Faults: `invalid`, `currency_mismatch`, `enrolled_partner_unknown`,
    /// `campaign_reference_taken`.
    pub fn run(&self, tx: &mut Tx<'_>) -> Result<CampaignView> {
        self.terms.check("/terms")?;
        let first =
            TermsVersion { version: 1, valid_from: self.starts_at, published_at: tx.now(), terms: self.terms.clone() };
        let campaign = CampaignView {
            id: tx.new_id(),
            state: DRAFT.state,
            name: self.name.clone(),
            kind: self.kind.clone(),
            currency: self.currency,
            starts_at: self.starts_at,
            ends_at: self.ends_at,
            activated_at: DRAFT.activated_at,
            ended_at: DRAFT.ended_at,
            pauses: DRAFT.pauses,
            budget: store::check_budget(self.budget, self.currency)?,
            attribution: self.attribution,
            terms: vec![first.clone()],
            owner_partner_id: self.owner_partner_id,
            tags: self.tags.clone(),
            external_refs: self.external_refs.clone(),
            metadata: self.metadata.clone().unwrap_or_default(),
            provisional: false,
            created_at: tx.now(),
            updated_at: tx.now(),
            version: 1,
        };
        store::check_dates(&campaign)?;
        store::check_attribution(&campaign.attribution)?;
        store::check_tags(&campaign.tags)?;
        store::check_metadata(&campaign.metadata)?;
        store::check_references(tx, campaign.id, &campaign.external_refs)?;
        if let Some(owner) = campaign.owner_partner_id {
            store::check_partner(tx, owner, "/owner_partner_id")?;
        }
        store::insert(tx, std::slice::from_ref(&campaign))?;
        let mut told = vec![NewEvent::of(&created(&campaign)), NewEvent::of(&terms::told(campaign.id, first))];
        if campaign.budget.is_some() {
            told.push(NewEvent::of(&BudgetChanged { campaign_id: campaign.id, budget: campaign.budget }));
        }
        tx.publish(&told)?;
        Ok(campaign)
    }
}

pub(crate) fn created(campaign: &CampaignView) -> Created {
    Created {
        campaign_id: campaign.id,
        currency: campaign.currency,
        starts_at: campaign.starts_at,
        ends_at: campaign.ends_at,
        external_refs: campaign.external_refs.clone(),
    }
}

#[cfg(test)]
mod tests {
    use events::campaigns::{CampaignProfile, CampaignState, TermsPublished};
    use kernel::Money;

    use super::*;
    use crate::testing::{NOBODY, PARTNER, amount, creation, day, key, percent, reference, world};
    use crate::views;

    #[test]
    fn a_draft_is_stored_published_and_told() {
        let world = world();
        let create = Create {
            kind: Some(key("launch")),
            ends_at: Some(day(90)),
            budget: amount(100_000, "USD"),
            owner_partner_id: Some(PARTNER),
            tags: vec![key("summer")],
            external_refs: vec![reference("shopify", "77")],
            metadata: serde_json::from_str(r#"{"cost_center": 3}"#).unwrap(),
            ..creation()
        };
        let campaign = world.create(&create).unwrap();
        assert_eq!(world.read(|reader| views::one(reader, campaign.id)), campaign);
        assert_eq!((campaign.state, campaign.version, campaign.created_at), (CampaignState::Draft, 1, day(10)));
        let first = TermsVersion { version: 1, valid_from: day(0), published_at: day(10), terms: percent(800) };
        let expected = CampaignProfile {
            state: CampaignState::Draft,
            currency: Currency::USD,
            starts_at: day(0),
            ends_at: Some(day(90)),
            pauses: Vec::new(),
            attribution: AttributionPolicy::default(),
            terms: vec![first],
            budget_minor: Some(100_000),
        };
        assert_eq!(world.profile(campaign.id), Some(expected));
        assert_eq!(world.named("shopify:77"), Some(campaign.id));
        let told = world.events_after(0);
        let names = ["created", "terms_published", "budget_changed"].map(|name| format!("campaigns.{name}.v1"));
        assert_eq!(world.types_after(0), names);
        assert_eq!(told[0].decode::<Created>().unwrap(), created(&campaign));
        assert_eq!(told[1].decode::<TermsPublished>().unwrap().valid_from, day(0));
        let budget = Some(Money::new(100_000, Currency::USD));
        assert_eq!(told[2].decode::<BudgetChanged>().unwrap(), BudgetChanged { campaign_id: campaign.id, budget });
        assert!(!told.iter().any(|event| event.payload.contains("Summer")));
        assert_eq!(world.differences(), Vec::<String>::new());
    }

    #[test]
    fn what_is_refused_changes_nothing_and_names_the_place() {
        let world = world();
        world.create(&Create { external_refs: vec![reference("s", "1")], ..creation() }).unwrap();
        let window = |window_days| AttributionPolicy { window_days, ..AttributionPolicy::default() };
        let long = "x".repeat(16_400);
        for (code, pointer, create) in [
            ("invalid", "/ends_at", Create { ends_at: Some(day(0)), ..creation() }),
            ("currency_mismatch", "/budget/currency", Create { budget: amount(1, "EUR"), ..creation() }),
            ("invalid", "/attribution/window_days", Create { attribution: window(0), ..creation() }),
            ("invalid", "/attribution/window_days", Create { attribution: window(3_651), ..creation() }),
            (
                "invalid",
                "/terms/components",
                Create { terms: Terms { components: Vec::new(), ..percent(1) }, ..creation() },
            ),
            (
                "invalid",
                "/terms/cap_minor",
                Create { terms: Terms { cap_minor: Some(-1), ..percent(1) }, ..creation() },
            ),
            ("invalid", "/terms/hold_days", Create { terms: Terms { hold_days: 3_651, ..percent(1) }, ..creation() }),
            ("enrolled_partner_unknown", "/owner_partner_id", Create { owner_partner_id: Some(NOBODY), ..creation() }),
            ("invalid", "/tags", Create { tags: vec![key("a"); 51], ..creation() }),
            ("invalid", "/external_refs", Create { external_refs: vec![reference("s", "2"); 2], ..creation() }),
            ("invalid", "/external_refs/0/system", Create { external_refs: vec![reference("s:", "2")], ..creation() }),
            (
                "campaign_reference_taken",
                "/external_refs/1",
                Create { external_refs: vec![reference("s", "2"), reference("s", "1")], ..creation() },
            ),
            (
                "invalid",
                "/metadata",
                Create { metadata: serde_json::from_value(serde_json::json!({"a": long})).unwrap(), ..creation() },
            ),
        ] {
            let fault = world.create(&create).unwrap_err();
            assert_eq!((fault.code(), fault.errors()[0].pointer.as_str()), (code, pointer));
        }
        assert_eq!((world.db.head(), world.named("s:2")), (2, None));
    }

    #[test]
    fn a_request_with_wrong_or_unknown_fields_is_not_read() {
        let request = |change: &dyn Fn(&mut serde_json::Map<String, serde_json::Value>)| {
            let mut request = serde_json::json!({
                "name": "Summer", "currency": "USD", "starts_at": "2026-01-31T12:00:00Z",
                "terms": {"components": [{"type": "percent", "basis_points": 800}]},
            });
            change(request.as_object_mut().unwrap());
            serde_json::from_value::<Create>(request)
        };
        let least = request(&|_| {}).unwrap();
        assert_eq!(least.attribution, AttributionPolicy::default());
        assert_eq!((least.attribution.window_days, least.terms.hold_days), (30, 30));
        for (name, value) in [
            ("state", serde_json::json!("active")),
            ("currency", serde_json::json!("usd")),
            ("starts_at", serde_json::json!("2026-01-31")),
            ("budget", serde_json::json!({"amount_minor": -1, "currency": "USD"})),
            ("budget", serde_json::json!({"amount_minor": 1.5, "currency": "USD"})),
            ("terms", serde_json::json!({"components": [{"type": "percent", "basis_points": 10_001}]})),
            ("terms", serde_json::json!({"components": [{"type": "percent", "rate": 8}]})),
            ("attribution", serde_json::json!({"model": "best_touch"})),
        ] {
            let read = request(&|request| {
                request.insert(name.to_owned(), value.clone());
            });
            assert!(read.is_err(), "{name}: {value}");
        }
    }
}
