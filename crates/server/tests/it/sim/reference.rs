//! The reference model: what the rules of the money (R1 … R11) say a *set* of facts must end in, after the last hold.
//!
//! It is small, slow and plain on purpose: no product code, no database, no events, no order of arrival, no corrections;
//! nested loops over the whole set. The product reaches the same end step by step, and the simulator compares.
//! It must not know any crate of the product, or both could share a bug.
//!
//! It speaks about what R11 speaks about: facts recorded before the first hold among them ends, no command in between, no
//! budget. One thing beyond that is exact as well, because the demo needs it: refunds recorded after the approval.
//!
//! Times are microseconds since 1970, UTC. Every span is half-open: `from` belongs to it, `to` does not. The attribution
//! window alone includes both of its ends (R4). Amounts are minor units.

use std::collections::{BTreeMap, BTreeSet};

use super::reference_attribution::{Attribution, attribute};
use super::reference_money::{self as money, RefundOutcome};

/// R1: the natural key of a fact, `(source, external_id)`. Rust compares both parts bytewise, as the rules want.
pub(super) type Key = (String, String);

/// `from <= t < to`; without `to` it goes on for ever.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) to: Option<i64>,
}

impl Span {
    pub(super) fn contains(&self, t: i64) -> bool {
        self.from <= t && self.to.is_none_or(|to| t < to)
    }
}

/// Everything that the outcome depends on. The order within the lists does not matter.
#[derive(Clone, Debug, Default)]
pub(super) struct World {
    pub(super) campaigns: Vec<Campaign>,
    pub(super) partners: Vec<Partner>,
    pub(super) enrollments: Vec<Enrollment>,
    pub(super) touches: Vec<Touch>,
    pub(super) conversions: Vec<Conversion>,
    pub(super) refunds: Vec<Refund>,
}

/// A campaign that is not in the world is unknown: facts that name it are parked (R1).
#[derive(Clone, Debug)]
pub(super) struct Campaign {
    pub(super) id: String,
    /// Still a draft: its facts are parked (R3).
    pub(super) draft: bool,
    pub(super) currency: String,
    pub(super) starts_at: i64,
    pub(super) ends_at: Option<i64>,
    /// The instant of its complete or cancel (R3).
    pub(super) closed_at: Option<i64>,
    pub(super) pauses: Vec<Span>,
    pub(super) model: Model,
    pub(super) window_micros: i64,
    pub(super) terms: Vec<Terms>,
}

/// R4: which of a customer's touches is asked first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Model {
    Last,
    First,
}

/// R5: one effective-dated version.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) version: i64,
    pub(super) valid_from: i64,
    pub(super) components: Vec<Component>,
    pub(super) cap_minor: Option<i64>,
    pub(super) hold_micros: i64,
    pub(super) auto_approve_up_to_minor: i64,
}

/// A part of the commission and the conditions under which it counts. A condition that is empty or absent always holds.
#[derive(Clone, Debug)]
pub(super) struct Component {
    pub(super) rate: Rate,
    pub(super) kinds: Vec<Kind>,
    pub(super) category: Option<String>,
    pub(super) minimum_minor: Option<i64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Rate {
    PercentBasisPoints(i64),
    FlatMinor(i64),
    FirstPurchaseBonusMinor(i64),
}

/// R2, R3. A partner that is not in the world is unknown: facts that name it are parked (R1).
#[derive(Clone, Debug)]
pub(super) struct Partner {
    pub(super) id: String,
    pub(super) state: PartnerState,
    /// Suspended from the command's instant to that of its reinstatement; not overlapping.
    pub(super) suspensions: Vec<Span>,
    pub(super) terminated_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PartnerState {
    Applied,
    /// The application was turned down: never active.
    Rejected,
    /// Activated at some time. When does not matter: it reaches back to the campaign's start (R3).
    Activated,
}

/// R3: without `from` it reaches back to the campaign's start.
#[derive(Clone, Debug)]
pub(super) struct Enrollment {
    pub(super) partner: String,
    pub(super) campaign: String,
    /// Unique among all enrolments.
    pub(super) code: Option<String>,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Touch {
    pub(super) key: Key,
    pub(super) campaign: String,
    pub(super) partner: String,
    pub(super) customer_ref: String,
    pub(super) click_id: Option<String>,
    pub(super) occurred_at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sale,
    Lead,
    Click,
}

#[derive(Clone, Debug)]
pub(super) struct Conversion {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) category: Option<String>,
    pub(super) campaign: Option<String>,
    pub(super) partner: Option<String>,
    pub(super) code: Option<String>,
    pub(super) click_id: Option<String>,
    pub(super) customer_ref: Option<String>,
    pub(super) occurred_at: i64,
    pub(super) recorded_at: i64,
    pub(super) amount_minor: i64,
    pub(super) currency: String,
}

/// A refund's event time decides nothing, so it is not here.
#[derive(Clone, Debug)]
pub(super) struct Refund {
    pub(super) key: Key,
    /// Absent: the refund's own source.
    pub(super) conversion_source: Option<String>,
    pub(super) conversion_external_id: String,
    pub(super) kind: RefundKind,
    /// Amount and currency. Absent: the whole of the sale (R6).
    pub(super) amount: Option<(i64, String)>,
    pub(super) recorded_at: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefundKind {
    Refund,
    Chargeback,
    Cancellation,
    ChargebackReversed,
}

/// What the world must end in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) conversions: BTreeMap<Key, ConversionOutcome>,
    pub(super) refunds: BTreeMap<Key, RefundOutcome>,
    /// By (partner, currency), what is owed as a positive amount. Partners without any commission are absent.
    pub(super) balances: BTreeMap<(String, String), Balance>,
    /// By campaign: what its commissions cost. Campaigns without any commission are absent.
    pub(super) expense_minor: BTreeMap<String, i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConversionOutcome {
    pub(super) decision: Decision,
    /// The campaign it belongs to, named or resolved; absent when parked or when nothing resolved it.
    pub(super) campaign: Option<String>,
    /// R6: R, never above the conversion's amount.
    pub(super) refunded_minor: i64,
    /// R6: by how much the sum of the refunds exceeds the amount; recorded, without effect on money.
    pub(super) excess_minor: i64,
    /// The live commission; none unless attributed, and none when the gross is zero (R5).
    pub(super) commission: Option<Commission>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Parked,
    /// With the reason: `outside_campaign`, `campaign_paused`, `currency_mismatch`.
    Rejected(&'static str),
    Unattributed,
    Attributed {
        partner: String,
        by: Matched,
    },
}

/// R4, in the order of precedence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matched {
    Partner,
    Code,
    ClickId,
    Touch,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Commission {
    pub(super) partner: String,
    pub(super) currency: String,
    pub(super) terms_version: i64,
    pub(super) gross_minor: i64,
    pub(super) kept_minor: i64,
    pub(super) bonus_earned: bool,
    pub(super) hold_ends_at: i64,
    pub(super) state: CommissionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommissionState {
    /// In the approval queue, or waiting for a suspended partner.
    Pending,
    Approved,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Balance {
    pub(super) pending_minor: i64,
    pub(super) payable_minor: i64,
}

/// Reads the rules top to bottom over the whole set.
///
/// Three passes, because a first purchase is known only when every conversion's campaign and rejection are.
pub(super) fn evaluate(world: &World) -> Outcome {
    assert_well_formed(world);
    let attributed: Vec<(&Conversion, Attribution<'_>)> =
        world.conversions.iter().map(|conversion| (conversion, attribute(world, conversion))).collect();
    let first_purchases = first_purchases(&attributed);
    let mut outcome = Outcome::default();
    for (conversion, attribution) in &attributed {
        let result = conversion_outcome(world, conversion, attribution, &first_purchases);
        if let (Some(commission), Some(campaign)) = (&result.commission, &result.campaign) {
            book(&mut outcome, commission, campaign);
        }
        outcome.conversions.insert(conversion.key.clone(), result);
    }
    for refund in &world.refunds {
        let sale = world.conversions.iter().find(|conversion| conversion.key == money::sale_key(refund));
        let taken_in = sale.filter(|sale| outcome.conversions[&sale.key].decision != Decision::Parked);
        outcome.refunds.insert(refund.key.clone(), money::refund_outcome(refund, taken_in));
    }
    outcome
}

/// R5: each customer's first sale per campaign, by (event time, source, external id). What it was worth and who is credited
/// does not matter; a rejected sale is none, and a parked one has no campaign yet.
fn first_purchases(attributed: &[(&Conversion, Attribution<'_>)]) -> BTreeSet<Key> {
    let mut first: BTreeMap<(&str, &str), &Conversion> = BTreeMap::new();
    for (conversion, attribution) in attributed {
        let rejected = matches!(attribution.decision, Decision::Rejected(_));
        let (false, Kind::Sale, Some(campaign), Some(customer)) =
            (rejected, conversion.kind, attribution.campaign, &conversion.customer_ref)
        else {
            continue;
        };
        let earliest = first.entry((&campaign.id, customer)).or_insert(conversion);
        if (conversion.occurred_at, &conversion.key) < (earliest.occurred_at, &earliest.key) {
            *earliest = conversion;
        }
    }
    first.into_values().map(|conversion| conversion.key.clone()).collect()
}

fn conversion_outcome(
    world: &World,
    conversion: &Conversion,
    attribution: &Attribution<'_>,
    first_purchases: &BTreeSet<Key>,
) -> ConversionOutcome {
    let refunds: Vec<&Refund> =
        world.refunds.iter().filter(|refund| money::sale_key(refund) == conversion.key).collect();
    let net_refunds_minor = money::net_refunds(conversion, &refunds);
    let commission = match (&attribution.decision, attribution.campaign) {
        (Decision::Attributed { partner, .. }, Some(campaign)) => {
            let partner = world.partner(partner).expect("only a known partner is credited");
            let is_first_purchase = first_purchases.contains(&conversion.key);
            money::commission(campaign, partner, conversion, is_first_purchase, &refunds)
        }
        _ => None,
    };
    ConversionOutcome {
        decision: attribution.decision.clone(),
        campaign: attribution.campaign.map(|campaign| campaign.id.clone()),
        refunded_minor: net_refunds_minor.clamp(0, conversion.amount_minor),
        excess_minor: (net_refunds_minor - conversion.amount_minor).max(0),
        commission,
    }
}

/// R8 after the last hold: what is kept stands as the campaign's expense and is owed to the partner, in one of two accounts.
fn book(outcome: &mut Outcome, commission: &Commission, campaign: &str) {
    let account = (commission.partner.clone(), commission.currency.clone());
    let balance = outcome.balances.entry(account).or_default();
    match commission.state {
        CommissionState::Pending => balance.pending_minor += commission.kept_minor,
        CommissionState::Approved => balance.payable_minor += commission.kept_minor,
    }
    *outcome.expense_minor.entry(campaign.to_owned()).or_default() += commission.kept_minor;
}

impl World {
    pub(super) fn campaign(&self, id: &str) -> Option<&Campaign> {
        self.campaigns.iter().find(|campaign| campaign.id == id)
    }

    pub(super) fn partner(&self, id: &str) -> Option<&Partner> {
        self.partners.iter().find(|partner| partner.id == id)
    }
}

/// R1: a natural key is unique within its kind, R3: a code is unique. A world that breaks this is the caller's mistake.
fn assert_well_formed(world: &World) {
    fn assert_unique<T: Ord>(what: &str, items: impl Iterator<Item = T>) {
        let mut seen = BTreeSet::new();
        for item in items {
            assert!(seen.insert(item), "the world holds one {what} twice");
        }
    }
    assert_unique("campaign", world.campaigns.iter().map(|campaign| &campaign.id));
    assert_unique("partner", world.partners.iter().map(|partner| &partner.id));
    assert_unique("code", world.enrollments.iter().filter_map(|enrollment| enrollment.code.as_ref()));
    assert_unique("touch", world.touches.iter().map(|touch| &touch.key));
    assert_unique("conversion", world.conversions.iter().map(|conversion| &conversion.key));
    assert_unique("refund", world.refunds.iter().map(|refund| &refund.key));
}
