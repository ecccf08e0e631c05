//! Who is credited (rules sections 3 and 4): what must be known first, the campaign, then the candidates in the order of
//! precedence, each with why it won or lost. One conversion at one moment; nothing about what came of it before.

use std::cmp::Ordering;

use events::campaigns::{AttributionModel, CampaignProfile, CampaignState};
use events::conversions::{Candidate, ConversionState, Rule};
use kernel::{CampaignId, PartnerId, Timestamp, TouchId};

use super::conversion::{Conversion, Moment, Touch};
use super::named::Named;
use super::reference_data::{ReferenceData, Wait, click_key, code_key, enrollment_key};

/// What came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) state: ConversionState,
    pub(crate) reason: Option<String>,
    pub(crate) campaign_id: Option<CampaignId>,
    pub(crate) partner_id: Option<PartnerId>,
    pub(crate) rule: Option<Rule>,
    pub(crate) candidates: Vec<Candidate>,
    /// When one of these appears, the conversion is decided again.
    pub(crate) again_on: Vec<String>,
}

/// A decision lists at most so many candidates: a customer may have touched partners a thousand times.
const MOST_CANDIDATES: usize = 20;

/// Decides `conversion` over the touches of its customer and those with its click id. The error is what it waits for.
pub(crate) fn decide(
    reference: &ReferenceData,
    conversion: &Conversion,
    customers: &[&Touch],
    clicks: &[&Touch],
    moment: Moment,
) -> Result<Outcome, Wait> {
    let named = conversion.campaign.as_ref().map(|name| reference.decided_campaign(name)).transpose()?;
    let partner = conversion.partner.as_ref().map(|name| reference.decided_partner(name)).transpose()?;
    let mut decision =
        Decision { reference, conversion, moment, winner: None, candidates: Vec::new(), again_on: Vec::new() };
    let resolved = match named {
        Some(named) => Some(named),
        None => decision.resolve_campaign(customers, clicks)?,
    };
    if let Some((campaign_id, campaign)) = resolved {
        let refusal = campaign
            .refusal_at(conversion.occurred_at)
            .or_else(|| (conversion.amount.currency() != campaign.currency).then_some("currency_mismatch"));
        if let Some(reason) = refusal {
            decision.wait_for_campaign();
            return Ok(decision.rejected(campaign_id, reason));
        }
    }
    if let Some(partner) = partner {
        decision.try_partner(resolved, partner);
    }
    decision.try_code(resolved)?;
    decision.try_touches(resolved, Rule::Click, clicks);
    decision.try_touches(resolved, Rule::Touch, customers);
    Ok(decision.outcome(resolved.map(|(id, _)| id)))
}

/// Ties go to the bytewise smallest natural key, under both models.
fn latest_first(a: &Touch, b: &Touch) -> Ordering {
    b.occurred_at.cmp(&a.occurred_at).then_with(|| by_natural_key(a, b))
}

fn by_natural_key(a: &Touch, b: &Touch) -> Ordering {
    (&a.source, &a.external_id).cmp(&(&b.source, &b.external_id))
}

/// A known campaign that is no draft.
type Resolved<'r> = Option<(CampaignId, &'r CampaignProfile)>;

struct Decision<'b> {
    reference: &'b ReferenceData,
    conversion: &'b Conversion,
    moment: Moment,
    winner: Option<(Rule, PartnerId)>,
    candidates: Vec<Candidate>,
    again_on: Vec<String>,
}

impl<'b> Decision<'b> {
    /// The campaign of the known code, else that of the latest matching click, else that of the customer's latest
    /// matching touch, each measured with its own campaign's window, whatever that campaign's model.
    fn resolve_campaign(&self, customers: &[&Touch], clicks: &[&Touch]) -> Result<Resolved<'b>, Wait> {
        if let Some(owner) = self.code_owner() {
            return self.reference.decided_campaign(&Named::Id(owner.campaign_id)).map(Some);
        }
        let latest = |touches: &[&Touch]| {
            let matching = touches.iter().filter_map(|touch| Some((*touch, self.counting(touch)?)));
            let in_window = matching.filter(|(touch, (_, campaign))| self.in_window(touch, campaign));
            in_window.min_by(|(a, _), (b, _)| latest_first(a, b)).map(|(_, campaign)| campaign)
        };
        Ok(latest(clicks).or_else(|| latest(customers)))
    }

    fn code_owner(&self) -> Option<&'b events::campaigns::CodeOwner> {
        let owner = self.reference.codes.get(self.conversion.code.as_ref()?)?;
        (owner.opened_at <= self.moment.known_at).then_some(owner)
    }

    /// The touch's campaign, if the touch counts at all: its campaign is no draft, its partner decided, and it occurred
    /// within the campaign's dates and not in a pause.
    fn counting(&self, touch: &Touch) -> Resolved<'b> {
        let (campaign_id, partner_id) = touch.parties()?;
        let campaign = self.reference.campaigns.get(&campaign_id)?;
        let counts = campaign.state != CampaignState::Draft
            && self.reference.decided_partner(&Named::Id(partner_id)).is_ok()
            && campaign.refusal_at(touch.occurred_at).is_none();
        counts.then_some((campaign_id, campaign))
    }

    fn in_window(&self, touch: &Touch, campaign: &CampaignProfile) -> bool {
        let at = self.conversion.occurred_at;
        touch.occurred_at <= at && at <= touch.occurred_at.plus(campaign.attribution.window())
    }

    /// Whether something of this or a later rule could still change the outcome: nobody has won, or the campaign itself
    /// depends on it.
    fn is_open(&self) -> bool {
        self.winner.is_none() || self.conversion.campaign.is_none()
    }

    /// Only a campaign that was not named can turn out to be another one later.
    fn wait_for_campaign(&mut self) {
        if self.conversion.campaign.is_some() {
            return;
        }
        if let Some(code) = self.conversion.code.as_ref().filter(|_| self.code_owner().is_none()) {
            self.again_on.push(code_key(code));
        }
        self.again_on.extend(self.conversion.click_id.as_deref().map(click_key));
    }

    fn try_partner(&mut self, resolved: Resolved<'_>, partner: PartnerId) {
        let bar = match resolved {
            None => Some("campaign_unknown"),
            Some((campaign, _)) => self.bar(campaign, partner),
        };
        self.list(Rule::Partner, Some(partner), None, bar);
    }

    fn try_code(&mut self, resolved: Resolved<'_>) -> Result<(), Wait> {
        let Some(code) = &self.conversion.code else { return Ok(()) };
        let Some(owner) = self.code_owner() else {
            if self.is_open() {
                self.again_on.push(code_key(code));
            }
            self.list(Rule::Code, None, None, Some("code_unknown"));
            return Ok(());
        };
        let bar = match resolved {
            Some((campaign, _)) if campaign == owner.campaign_id => {
                let decided = self.reference.decided_partner(&Named::Id(owner.partner_id));
                match decided {
                    Err(wait) if self.winner.is_none() => return Err(wait),
                    _ => self.reference.bar(
                        campaign,
                        owner.partner_id,
                        self.conversion.occurred_at,
                        self.moment.known_at,
                        Some(owner),
                    ),
                }
            }
            _ => Some("other_campaign"),
        };
        self.list(Rule::Code, Some(owner.partner_id), None, bar);
        Ok(())
    }

    fn try_touches(&mut self, resolved: Resolved<'_>, rule: Rule, touches: &[&Touch]) {
        if rule == Rule::Click {
            let Some(click_id) = &self.conversion.click_id else { return };
            // Another touch with the same click id may still come.
            if self.is_open() {
                self.again_on.push(click_key(click_id));
            }
            if touches.is_empty() {
                self.list(rule, None, None, Some("click_unknown"));
            }
        }
        let mut asked: Vec<&Touch> =
            touches.iter().copied().filter(|touch| touch.occurred_at <= self.conversion.occurred_at).collect();
        let model = resolved.map_or(AttributionModel::LastTouch, |(_, campaign)| campaign.attribution.model);
        asked.sort_by(|a, b| match model {
            AttributionModel::LastTouch => latest_first(a, b),
            AttributionModel::FirstTouch => a.occurred_at.cmp(&b.occurred_at).then_with(|| by_natural_key(a, b)),
        });
        for touch in asked {
            let Some((campaign_id, partner)) = touch.parties() else { continue };
            let bar = self.touch_bar(resolved, touch, campaign_id, partner);
            self.list(rule, Some(partner), Some(touch.id), bar);
        }
    }

    fn touch_bar(
        &mut self,
        resolved: Resolved<'_>,
        touch: &Touch,
        campaign_id: CampaignId,
        partner: PartnerId,
    ) -> Option<&'static str> {
        let Some((_, campaign)) = resolved.filter(|(id, _)| *id == campaign_id) else {
            let window = self.reference.campaigns.get(&campaign_id);
            let outside = window.is_some_and(|campaign| !self.in_window(touch, campaign));
            return Some(if outside { "outside_window" } else { "other_campaign" });
        };
        if !self.in_window(touch, campaign) {
            return Some("outside_window");
        }
        if let Some(refusal) = campaign.refusal_at(touch.occurred_at) {
            return Some(refusal);
        }
        if self.counting(touch).is_none() {
            return Some("partner_not_active");
        }
        self.bar(campaign_id, partner)
    }

    /// Why the partner loses; one that is not enrolled may be enrolled later, which asks for another decision.
    fn bar(&mut self, campaign: CampaignId, partner: PartnerId) -> Option<&'static str> {
        let at: Timestamp = self.conversion.occurred_at;
        let bar = self.reference.bar(campaign, partner, at, self.moment.known_at, None);
        if bar == Some("partner_not_enrolled") && self.winner.is_none() {
            self.again_on.push(enrollment_key(campaign, partner));
        }
        bar
    }

    fn list(
        &mut self,
        rule: Rule,
        partner_id: Option<PartnerId>,
        touch_id: Option<TouchId>,
        bar: Option<&'static str>,
    ) {
        let outcome = match (bar, self.winner, partner_id) {
            (Some(bar), _, _) => bar,
            (None, None, Some(partner)) => {
                self.winner = Some((rule, partner));
                "won"
            }
            (None, Some((winner, _)), _) if winner == rule => "later_touch",
            (None, _, _) => "later_rule",
        };
        // The winner is always listed.
        if self.candidates.len() < MOST_CANDIDATES || outcome == "won" {
            self.candidates.push(Candidate { rule, partner_id, touch_id, outcome: outcome.to_owned() });
        }
    }

    fn rejected(self, campaign_id: CampaignId, reason: &str) -> Outcome {
        Outcome {
            state: ConversionState::Rejected,
            reason: Some(reason.to_owned()),
            campaign_id: Some(campaign_id),
            partner_id: None,
            rule: None,
            candidates: Vec::new(),
            again_on: self.again_on,
        }
    }

    fn outcome(self, campaign_id: Option<CampaignId>) -> Outcome {
        let state = if self.winner.is_some() { ConversionState::Attributed } else { ConversionState::Unattributed };
        Outcome {
            state,
            reason: None,
            campaign_id,
            partner_id: self.winner.map(|(_, partner)| partner),
            rule: self.winner.map(|(rule, _)| rule),
            candidates: self.candidates,
            again_on: self.again_on,
        }
    }
}
