//! The facts as decisions see them, and where the attribution of a conversion stands.

use events::campaigns::Terms;
use events::conversions::{ConversionKind, ConversionState, Line, Rule};
use kernel::{Amount, CampaignId, ConversionId, EventId, PartnerId, Timestamp, TouchId};

use super::named::Named;
use super::refund::RefundSum;

/// A customer without the name.
pub(crate) type Customer = [u8; 16];

/// A touch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) id: TouchId,
    pub(crate) source: String,
    pub(crate) external_id: String,
    pub(crate) position: i64,
    /// Decisions at this position or later see it; `NEVER` while it is parked.
    pub(crate) counted_from: i64,
    pub(crate) occurred_at: Timestamp,
    pub(crate) customer: Customer,
    pub(crate) campaign: Named<CampaignId>,
    pub(crate) partner: Named<PartnerId>,
    pub(crate) click_id: Option<String>,
}

/// No position is that high: the touch is parked.
pub(crate) const NEVER: i64 = i64::MAX;

impl Touch {
    /// The campaign and the partner, once both are known by our ids.
    pub(crate) fn parties(&self) -> Option<(CampaignId, PartnerId)> {
        match (&self.campaign, &self.partner) {
            (Named::Id(campaign), Named::Id(partner)) => Some((*campaign, *partner)),
            _ => None,
        }
    }
}

/// A conversion: the fact, and where its attribution stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversion {
    pub(crate) id: ConversionId,
    pub(crate) source: String,
    pub(crate) external_id: String,
    pub(crate) position: i64,
    pub(crate) recorded_at: Timestamp,
    pub(crate) kind: ConversionKind,
    pub(crate) occurred_at: Timestamp,
    pub(crate) amount: Amount,
    pub(crate) campaign: Option<Named<CampaignId>>,
    pub(crate) partner: Option<Named<PartnerId>>,
    pub(crate) code: Option<String>,
    pub(crate) click_id: Option<String>,
    pub(crate) customer: Option<Customer>,
    pub(crate) lines: Vec<Line>,
    pub(crate) terms: Option<Terms>,
    pub(crate) standing: Standing,
}

/// Where the attribution of a conversion stands: the latest decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: ConversionState,
    /// Why it is rejected, or the operator's words.
    pub(crate) reason: Option<String>,
    /// How often it was decided.
    pub(crate) decision: u32,
    /// The event that tells the decision.
    pub(crate) decision_position: Option<i64>,
    /// The decision saw the facts up to this position.
    pub(crate) decided_from: Option<i64>,
    /// The decision saw the reference data as known then.
    pub(crate) decided_at: Option<Timestamp>,
    /// From then on only an operator attributes.
    pub(crate) automatic_until: Option<Timestamp>,
    pub(crate) rule: Option<Rule>,
    pub(crate) campaign_id: Option<CampaignId>,
    pub(crate) partner_id: Option<PartnerId>,
    pub(crate) first_purchase: bool,
    pub(crate) refunds: RefundSum,
}

/// A decided conversion in the list of its customer's: what the decision about another one asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) customer: Customer,
    pub(crate) conversion_id: ConversionId,
    /// Where it counts as a purchase, if it does.
    pub(crate) campaign_id: Option<CampaignId>,
    pub(crate) occurred_at: Timestamp,
    pub(crate) source: String,
    pub(crate) external_id: String,
    pub(crate) first_purchase: bool,
}

impl Conversion {
    /// How it stands in its customer's list; nowhere without a customer, and not before it is decided.
    pub(crate) fn listed(&self) -> Option<Listed> {
        let customer = self.customer.filter(|_| self.standing.state != ConversionState::Recorded)?;
        Some(Listed {
            customer,
            conversion_id: self.id,
            campaign_id: self.purchases().map(|(campaign_id, _)| campaign_id),
            occurred_at: self.occurred_at,
            source: self.source.clone(),
            external_id: self.external_id.clone(),
            first_purchase: self.standing.first_purchase,
        })
    }

    /// Its place among the sales of a customer: by event time, then by natural key, bytewise.
    pub(crate) fn order(&self) -> (Timestamp, &str, &str) {
        (self.occurred_at, &self.source, &self.external_id)
    }

    /// The customer's sales of one campaign, among which the first is asked for; none for what is no counting sale.
    pub(crate) fn purchases(&self) -> Option<(CampaignId, Customer)> {
        let counts = self.kind == ConversionKind::Sale
            && matches!(self.standing.state, ConversionState::Attributed | ConversionState::Unattributed);
        if counts { Some((self.standing.campaign_id?, self.customer?)) } else { None }
    }

    /// Whether a fact that became known at `time` may still change its attribution without a person.
    pub(crate) fn is_automatic_at(&self, time: Timestamp) -> bool {
        self.standing.automatic_until.is_some_and(|until| time < until)
    }
}

/// When and with what knowledge something is decided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    /// Facts up to this position are seen.
    pub(crate) position: i64,
    /// When the fact that asks for the decision became known.
    pub(crate) time: Timestamp,
    /// Reference data are seen as known then.
    pub(crate) known_at: Timestamp,
}

/// The event that another follows from.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) event_id: Option<EventId>,
    pub(crate) correlation_id: Option<String>,
}
