//! A slice's facts with everything they touch, and the fold over them: each event is handled in order and sees only what
//! was recorded up to its position, so that any split of the log into slices ends in the same state. It collects events
//! and changed rows; it must not know where they are kept.

use std::collections::{BTreeMap, BTreeSet};

use events::campaigns::{self, EnrollmentOpened};
use events::conversions::{
    Attributed, Candidate, ConversionState, Recorded, ReferenceMissing, RefundRecorded, RefundRejected, Refunded,
    Rejected, Rule, TouchRecorded, Unattributed,
};
use events::partners;
use kernel::{
    CampaignId, ConversionId, Currency, Event, EventRecord, Fault, NewEvent, PartnerId, Reason, Reference, RefundId,
    Result, Timestamp, TouchId, hex,
};

use super::attribution::{self, Outcome};
use super::conversion::{Cause, Conversion, Customer, Listed, Moment, NEVER, Standing, Touch};
use super::named::Named;
use super::reference_data::{
    ReferenceData, Wait, campaign_key, click_key, code_key, conversion_key, enrollment_key, partner_key,
};
use super::refund::RefundState;

kernel::names! {
    /// What happens to a fact that names an unknown partner or campaign.
    pub enum UnknownReference {
        /// It waits until somebody creates it.
        Park = "park",
        /// It waits, and a provisional one is asked for.
        Provision = "provision",
    }
}

/// Without terms in force nothing says how long a hold is.
const DEFAULT_HOLD_DAYS: u32 = 30;

/// A fact that waits.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) position: i64,
    pub(crate) reason: &'static str,
    fact: FactRef,
    cause: Cause,
}

#[derive(Debug, Clone)]
enum FactRef {
    Touch(TouchId),
    Conversion(ConversionId),
    /// With the instant at which it became known.
    Refund(Box<RefundRecorded>, Timestamp),
}

/// What became of a refund.
#[derive(Debug, Clone)]
pub(crate) struct RefundChange {
    pub(crate) id: RefundId,
    pub(crate) state: RefundState,
    pub(crate) refusal: Option<&'static str>,
}

/// The facts of a slice, what they touch, and what came of them.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) reference: ReferenceData,
    unknown_reference: UnknownReference,
    conversions: BTreeMap<ConversionId, Conversion>,
    touches: BTreeMap<TouchId, Touch>,
    by_customer: BTreeMap<Customer, Vec<ConversionId>>,
    /// The earliest purchase of a customer in a campaign among those that no decision of this slice can change.
    earliest: BTreeMap<(CampaignId, Customer), (Timestamp, String, String)>,
    touches_by_customer: BTreeMap<Customer, Vec<TouchId>>,
    touches_by_click: BTreeMap<String, Vec<TouchId>>,
    sales: BTreeMap<String, ConversionId>,
    again_on: BTreeMap<String, BTreeSet<ConversionId>>,
    waiting: BTreeMap<String, Vec<Waiting>>,
    pub(crate) changes: Changes,
}

/// What is to be published and written.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    pub(crate) outbox: Vec<NewEvent>,
    /// Changed conversions, each with the index of its latest decision in the outbox if there is one.
    pub(crate) conversions: BTreeMap<ConversionId, Option<usize>>,
    pub(crate) touches: BTreeSet<TouchId>,
    pub(crate) refunds: Vec<RefundChange>,
    pub(crate) again_on: BTreeSet<(String, ConversionId)>,
    /// Kind and reference, with the index of the request in the outbox.
    pub(crate) requested: Vec<(&'static str, String, usize)>,
}

impl Book {
    /// An empty book over `reference`.
    pub(crate) fn new(reference: ReferenceData, unknown_reference: UnknownReference) -> Self {
        Self {
            reference,
            unknown_reference,
            conversions: BTreeMap::new(),
            touches: BTreeMap::new(),
            by_customer: BTreeMap::new(),
            earliest: BTreeMap::new(),
            touches_by_customer: BTreeMap::new(),
            touches_by_click: BTreeMap::new(),
            sales: BTreeMap::new(),
            again_on: BTreeMap::new(),
            waiting: BTreeMap::new(),
            changes: Changes::default(),
        }
    }

    /// Adds a conversion; each once.
    pub(crate) fn add_conversion(&mut self, conversion: Conversion) {
        if let Some(customer) = conversion.customer {
            self.by_customer.entry(customer).or_default().push(conversion.id);
        }
        self.conversions.insert(conversion.id, conversion);
    }

    /// Adds a conversion of which only its place matters: no decision of this slice can change it.
    pub(crate) fn add_listed(&mut self, listed: Listed) {
        let Some(campaign_id) = listed.campaign_id else { return };
        let place = (listed.occurred_at, listed.source, listed.external_id);
        let earliest = self.earliest.entry((campaign_id, listed.customer)).or_insert_with(|| place.clone());
        *earliest = place.min(std::mem::take(earliest));
    }

    /// Makes a conversion findable by its natural key: somebody refunds it.
    pub(crate) fn add_sale(&mut self, id: ConversionId) {
        if let Some(conversion) = self.conversions.get(&id) {
            self.sales.insert(conversion_key(&conversion.source, &conversion.external_id), id);
        }
    }

    /// Adds a touch; each once.
    pub(crate) fn add_touch(&mut self, touch: Touch) {
        self.touches_by_customer.entry(touch.customer).or_default().push(touch.id);
        if let Some(click_id) = &touch.click_id {
            self.touches_by_click.entry(click_id.clone()).or_default().push(touch.id);
        }
        self.touches.insert(touch.id, touch);
    }

    /// A conversion is decided again when `wait_key` appears.
    pub(crate) fn add_wait(&mut self, wait_key: String, id: ConversionId) {
        self.again_on.entry(wait_key).or_default().insert(id);
    }

    /// A fact that was parked and waits for `wait_key`.
    pub(crate) fn add_parked(&mut self, wait_key: String, event: &EventRecord) -> Result<()> {
        let Some(fact) = FactRef::of(event)? else { return Ok(()) };
        let waiting = Waiting { position: event.position, reason: "", fact, cause: Cause::of(event) };
        self.waiting.entry(wait_key).or_default().push(waiting);
        Ok(())
    }

    /// A conversion.
    pub(crate) fn conversion(&self, id: ConversionId) -> Option<&Conversion> {
        self.conversions.get(&id)
    }

    /// The conversions of the same customer.
    pub(crate) fn of_customer(&self, customer: Customer) -> impl Iterator<Item = &Conversion> {
        self.by_customer.get(&customer).into_iter().flatten().map(|id| &self.conversions[id])
    }

    /// A touch.
    pub(crate) fn touch(&self, id: TouchId) -> Option<&Touch> {
        self.touches.get(&id)
    }

    /// What still waits, by key.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (&String, &Waiting)> {
        self.waiting.iter().flat_map(|(key, waiting)| waiting.iter().map(move |waiting| (key, waiting)))
    }

    /// Handles an event; reference data are seen as known at `known_at`. Fault: `internal` when it does not decode.
    pub(crate) fn handle(&mut self, event: &EventRecord, known_at: Timestamp) -> Result<()> {
        let moment = Moment { position: event.position, time: event.time, known_at };
        let cause = Cause::of(event);
        if let Some(fact) = FactRef::of(event)? {
            let waiting = Waiting { position: event.position, reason: "", fact, cause };
            return self.fact(waiting, moment);
        }
        let keys = wait_keys(event)?;
        self.resume(&keys, moment)?;
        for key in keys {
            let again = self.again_on.get(&key).cloned().unwrap_or_default();
            self.decide_all_again(again, moment, &cause);
        }
        Ok(())
    }

    /// Tries parked facts again, whatever they wait for.
    pub(crate) fn try_again(&mut self, events: &[EventRecord], moment: Moment) -> Result<()> {
        let mut again = Vec::with_capacity(events.len());
        for event in events {
            let fact = FactRef::of(event)?;
            let cause = Cause::of(event);
            again.extend(fact.map(|fact| Waiting { position: event.position, reason: "", fact, cause }));
        }
        self.facts(again, moment)
    }

    fn resume(&mut self, keys: &[String], moment: Moment) -> Result<()> {
        let resumed = keys.iter().filter_map(|key| self.waiting.remove(key)).flatten().collect();
        self.facts(resumed, moment)
    }

    /// Touches first: what becomes known at one moment is known to every decision of that moment, also to that of a
    /// conversion whose automatic time is over.
    fn facts(&mut self, mut facts: Vec<Waiting>, moment: Moment) -> Result<()> {
        facts.sort_by_key(|waiting| waiting.position);
        let (touches, others): (Vec<_>, Vec<_>) =
            facts.into_iter().partition(|waiting| matches!(waiting.fact, FactRef::Touch(_)));
        self.count_touches(touches, moment)?;
        others.into_iter().try_for_each(|waiting| self.fact(waiting, moment))
    }

    /// All of them count before any conversion is decided again.
    fn count_touches(&mut self, touches: Vec<Waiting>, moment: Moment) -> Result<()> {
        let Some(cause) = touches.first().map(|waiting| waiting.cause.clone()) else { return Ok(()) };
        let mut again = BTreeSet::new();
        for waiting in touches {
            if let FactRef::Touch(id) = waiting.fact {
                again.extend(self.count_touch(id, waiting, moment)?);
            }
        }
        self.decide_all_again(again, moment, &cause);
        Ok(())
    }

    fn fact(&mut self, waiting: Waiting, moment: Moment) -> Result<()> {
        match &waiting.fact {
            FactRef::Touch(_) => self.count_touches(vec![waiting], moment),
            FactRef::Conversion(id) => self.attribute(*id, waiting, moment),
            FactRef::Refund(refund, recorded_at) => self.refund(&refund.clone(), *recorded_at, waiting, moment),
        }
    }

    fn park(&mut self, wait: Wait, currency: Option<Currency>, waiting: Waiting) {
        if let Some((kind, reference)) = wait.missing
            && self.unknown_reference == UnknownReference::Provision
            && self.reference.requested.insert((kind, reference.clone()))
        {
            let event = ReferenceMissing { kind: kind.to_owned(), reference: reference.clone(), currency };
            let index = self.publish(&event, &waiting.cause);
            self.changes.requested.push((kind, reference, index));
        }
        self.waiting.entry(wait.key).or_default().push(Waiting { reason: wait.reason, ..waiting });
    }

    fn publish<E: Event>(&mut self, event: &E, cause: &Cause) -> usize {
        let mut event = NewEvent::of(event);
        event.causation_id = cause.event_id;
        event.correlation_id.clone_from(&cause.correlation_id);
        self.changes.outbox.push(event);
        self.changes.outbox.len() - 1
    }

    /// A touch counts from here on, if its parties are known and decided; answers the conversions that may change.
    fn count_touch(&mut self, id: TouchId, waiting: Waiting, moment: Moment) -> Result<BTreeSet<ConversionId>> {
        let touch = self.touches.get(&id).ok_or_else(|| missing(&id))?;
        let parties = self.reference.decided_campaign(&touch.campaign).and_then(|(campaign_id, campaign)| {
            let partner_id = self.reference.decided_partner(&touch.partner)?;
            Ok((campaign_id, partner_id, campaign.attribution.window()))
        });
        let mut counted = touch.clone();
        let (campaign_id, partner_id, window) = match parties {
            Ok(parties) => parties,
            Err(wait) => {
                counted.counted_from = NEVER;
                self.change_touch(counted);
                self.park(wait, None, waiting);
                return Ok(BTreeSet::new());
            }
        };
        let (occurred_at, customer) = (touch.occurred_at, touch.customer);
        let mut again: BTreeSet<ConversionId> = BTreeSet::new();
        if let Some(click_id) = &touch.click_id {
            again.extend(self.again_on.get(&click_key(click_id)).into_iter().flatten());
        }
        again.extend(self.by_customer.get(&customer).into_iter().flatten());
        again.retain(|id| {
            let at = self.conversions[id].occurred_at;
            occurred_at <= at && at <= occurred_at.plus(window)
        });
        if counted.counted_from == NEVER {
            // It was parked: it counts from the event that resumed it.
            counted.counted_from = moment.position;
        }
        counted.campaign = Named::Id(campaign_id);
        counted.partner = Named::Id(partner_id);
        self.change_touch(counted);
        Ok(again)
    }

    fn change_touch(&mut self, touch: Touch) {
        if self.touches.get(&touch.id) != Some(&touch) {
            self.changes.touches.insert(touch.id);
            self.touches.insert(touch.id, touch);
        }
    }

    /// A conversion is decided for the first time, or waits.
    fn attribute(&mut self, id: ConversionId, waiting: Waiting, moment: Moment) -> Result<()> {
        let conversion = self.conversions.get(&id).ok_or_else(|| missing(&id))?;
        if conversion.standing.state == ConversionState::Recorded {
            let currency = conversion.amount.currency();
            match self.evaluate(conversion, moment) {
                Ok(outcome) => self.settle(id, outcome, moment, &waiting.cause),
                Err(wait) => self.park(wait, Some(currency), waiting),
            }
        } else {
            self.decide_again(id, moment, &waiting.cause);
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        let conversion = &self.conversions[&id];
        let key = conversion_key(&conversion.source, &conversion.external_id);
        self.resume(&[key], moment)
    }

    /// What the rules say about a conversion at a moment.
    pub(crate) fn evaluate(&self, conversion: &Conversion, moment: Moment) -> Result<Outcome, Wait> {
        let seen = |ids: Option<&Vec<TouchId>>| -> Vec<&Touch> {
            let touches = ids.into_iter().flatten().map(|id| &self.touches[id]);
            touches.filter(|touch| touch.counted_from <= moment.position).collect()
        };
        let customers = seen(conversion.customer.and_then(|customer| self.touches_by_customer.get(&customer)));
        let clicks = seen(conversion.click_id.as_ref().and_then(|click_id| self.touches_by_click.get(click_id)));
        attribution::decide(&self.reference, conversion, &customers, &clicks, moment)
    }

    fn decide_all_again(&mut self, ids: BTreeSet<ConversionId>, moment: Moment, cause: &Cause) {
        let mut ids: Vec<ConversionId> = ids.into_iter().collect();
        ids.sort_by(|a, b| self.conversions[a].order().cmp(&self.conversions[b].order()));
        for id in ids {
            self.decide_again(id, moment, cause);
        }
    }

    /// Decides again what was decided automatically and is not past its time.
    fn decide_again(&mut self, id: ConversionId, moment: Moment, cause: &Cause) {
        let conversion = &self.conversions[&id];
        let standing = &conversion.standing;
        // The rejection of a conversion that names its campaign does not depend on other facts.
        let is_final = standing.state == ConversionState::Rejected && conversion.campaign.is_some();
        if standing.state == ConversionState::Recorded
            || standing.rule == Some(Rule::Operator)
            || is_final
            || !conversion.is_automatic_at(moment.time)
        {
            return;
        }
        match self.evaluate(conversion, moment) {
            Ok(outcome) => self.settle(id, outcome, moment, cause),
            Err(wait) => {
                let (position, currency) = (conversion.position, conversion.amount.currency());
                let waiting = Waiting { position, reason: "", fact: FactRef::Conversion(id), cause: cause.clone() };
                self.park(wait, Some(currency), waiting);
            }
        }
    }

    /// Makes `outcome` the conversion's latest decision if it differs, and hands the first purchase on: it is taken from
    /// one sale before it is given to another, so that a bonus is free when it is claimed.
    fn settle(&mut self, id: ConversionId, outcome: Outcome, moment: Moment, cause: &Cause) {
        self.changes.again_on.extend(outcome.again_on.iter().map(|key| (key.clone(), id)));
        for key in &outcome.again_on {
            self.again_on.entry(key.clone()).or_default().insert(id);
        }
        let conversion = &self.conversions[&id];
        let before = conversion.purchases();
        let was_first = before.is_some() && self.is_first(conversion, before);
        let mut decided = conversion.clone();
        decided.standing = Standing {
            state: outcome.state,
            reason: outcome.reason,
            decision: conversion.standing.decision + 1,
            decision_position: None,
            decided_from: Some(moment.position),
            decided_at: Some(moment.known_at),
            automatic_until: Some(self.automatic_until(conversion, outcome.campaign_id, moment)),
            rule: outcome.rule,
            campaign_id: outcome.campaign_id,
            partner_id: outcome.partner_id,
            first_purchase: false,
            refunds: conversion.standing.refunds,
        };
        let after = decided.purchases();
        let is_first = after.is_some() && self.is_first(&decided, after);
        decided.standing.first_purchase = is_first && outcome.state == ConversionState::Attributed;
        if same_outcome(&conversion.standing, &decided.standing) {
            return;
        }
        if is_first {
            for other in self.others(id, after, |other| other.standing.first_purchase) {
                self.hand_first_purchase(other, false, moment, cause);
            }
        }
        self.publish_decision(decided, outcome.candidates, cause);
        if was_first && before != after {
            let left = self.others(id, before, |_| true);
            let next = left.into_iter().min_by(|a, b| self.conversions[a].order().cmp(&self.conversions[b].order()));
            if let Some(next) = next {
                self.hand_first_purchase(next, true, moment, cause);
            }
        }
    }

    /// Whether no other of the customer's purchases in the campaign comes before `conversion`.
    fn is_first(&self, conversion: &Conversion, purchases: Option<(CampaignId, Customer)>) -> bool {
        let listed = purchases.and_then(|purchases| self.earliest.get(&purchases));
        let is_before = |(at, source, id): &(Timestamp, String, String)| (*at, &**source, &**id) < conversion.order();
        !listed.is_some_and(is_before)
            && self.others(conversion.id, purchases, |other| other.order() < conversion.order()).is_empty()
    }

    /// The other purchases of the same customer in the same campaign that meet a condition.
    fn others(
        &self,
        id: ConversionId,
        purchases: Option<(CampaignId, Customer)>,
        condition: impl Fn(&Conversion) -> bool,
    ) -> Vec<ConversionId> {
        let Some((_, customer)) = purchases else { return Vec::new() };
        let of_customer = self.of_customer(customer);
        let others = of_customer.filter(|other| other.id != id && other.purchases() == purchases && condition(other));
        others.map(|other| other.id).collect()
    }

    /// Gives the first purchase to an attributed conversion or takes it away, unless its automatic time is over.
    fn hand_first_purchase(&mut self, id: ConversionId, first_purchase: bool, moment: Moment, cause: &Cause) {
        let conversion = &self.conversions[&id];
        let standing = &conversion.standing;
        let (Some(rule), Some(partner_id)) = (standing.rule, standing.partner_id) else { return };
        if standing.first_purchase == first_purchase || !conversion.is_automatic_at(moment.time) {
            return;
        }
        let agreed = self.evaluate(conversion, moment).ok().filter(|outcome| {
            rule != Rule::Operator
                && (outcome.partner_id, outcome.campaign_id) == (standing.partner_id, standing.campaign_id)
        });
        let mut decided = conversion.clone();
        decided.standing.first_purchase = first_purchase;
        decided.standing.decision += 1;
        let candidates = match agreed {
            Some(outcome) => {
                decided.standing.decided_from = Some(moment.position);
                decided.standing.decided_at = Some(moment.known_at);
                decided.standing.rule = outcome.rule;
                outcome.candidates
            }
            // An operator decided, or what changes the partner has its own event on the way: the partner stays for now.
            None => vec![won(rule, partner_id)],
        };
        self.publish_decision(decided, candidates, cause);
    }

    /// When automatic attribution ends: after the hold of the terms in force.
    fn automatic_until(&self, conversion: &Conversion, campaign: Option<CampaignId>, moment: Moment) -> Timestamp {
        let campaign = campaign.and_then(|id| self.reference.campaigns.get(&id));
        let in_force = campaign.and_then(|campaign| campaign.terms_at(conversion.occurred_at, moment.known_at));
        let terms = conversion.terms.as_ref().or(in_force.map(|version| &version.terms));
        conversion.recorded_at.plus_days(terms.map_or(DEFAULT_HOLD_DAYS, |terms| terms.hold_days))
    }

    fn publish_decision(&mut self, decided: Conversion, candidates: Vec<Candidate>, cause: &Cause) {
        let standing = &decided.standing;
        let (conversion_id, decision, campaign_id) = (decided.id, standing.decision, standing.campaign_id);
        let index = match (standing.state, campaign_id, standing.partner_id, standing.rule) {
            (ConversionState::Attributed, Some(campaign_id), Some(partner_id), Some(rule)) => {
                let event = Attributed {
                    conversion_id,
                    decision,
                    campaign_id,
                    partner_id,
                    rule,
                    kind: decided.kind,
                    occurred_at: decided.occurred_at,
                    recorded_at: decided.recorded_at,
                    amount: decided.amount,
                    lines: decided.lines.clone(),
                    customer: decided.customer.map(|customer| hex(&customer)),
                    first_purchase: standing.first_purchase,
                    refunds: standing.refunds.totals(decided.amount.minor()),
                    terms: decided.terms.clone(),
                    candidates,
                };
                self.publish(&event, cause)
            }
            (ConversionState::Rejected, ..) => {
                let reason = standing.reason.clone().unwrap_or_default();
                self.publish(&Rejected { conversion_id, decision, reason }, cause)
            }
            _ => self.publish(&Unattributed { conversion_id, decision, campaign_id, candidates }, cause),
        };
        self.changes.conversions.insert(conversion_id, Some(index));
        self.conversions.insert(conversion_id, decided);
    }

    /// An operator attributes a conversion; nothing automatic changes the partner afterwards.
    pub(crate) fn attribute_by_operator(
        &mut self,
        id: ConversionId,
        campaign_id: CampaignId,
        partner_id: PartnerId,
        reason: &Reason,
        moment: Moment,
    ) {
        let outcome = Outcome {
            state: ConversionState::Attributed,
            reason: Some(reason.as_str().to_owned()),
            campaign_id: Some(campaign_id),
            partner_id: Some(partner_id),
            rule: Some(Rule::Operator),
            candidates: vec![won(Rule::Operator, partner_id)],
            again_on: Vec::new(),
        };
        self.settle(id, outcome, moment, &Cause { event_id: None, correlation_id: None });
    }

    /// A refund counts, has no effect, or waits for its conversion.
    fn refund(
        &mut self,
        refund: &RefundRecorded,
        recorded_at: Timestamp,
        waiting: Waiting,
        moment: Moment,
    ) -> Result<()> {
        let (source, external_id) = (refund.conversion_source.as_str(), refund.conversion_external_id.as_str());
        let sale = self.sales.get(&conversion_key(source, external_id)).and_then(|id| self.conversions.get_mut(id));
        let Some(sale) = sale.filter(|sale| sale.position <= moment.position) else {
            self.park(Wait::on_conversion(source, external_id), None, waiting);
            return Ok(());
        };
        let change = match sale.standing.refunds.add(sale.amount, refund.kind, refund.amount) {
            Ok(()) => {
                let refunds = sale.standing.refunds.totals(sale.amount.minor());
                let (conversion_id, amount) = (sale.id, sale.amount);
                let event = Refunded {
                    conversion_id,
                    refund_id: refund.refund_id,
                    kind: refund.kind,
                    amount,
                    refunds,
                    recorded_at: Some(recorded_at),
                };
                self.publish(&event, &waiting.cause);
                self.changes.conversions.entry(conversion_id).or_insert(None);
                RefundChange { id: refund.refund_id, state: RefundState::Applied, refusal: None }
            }
            Err(refusal) => {
                let event = RefundRejected { refund_id: refund.refund_id, reason: refusal.to_owned() };
                self.publish(&event, &waiting.cause);
                RefundChange { id: refund.refund_id, state: RefundState::Rejected, refusal: Some(refusal) }
            }
        };
        self.changes.refunds.push(change);
        Ok(())
    }
}

fn won(rule: Rule, partner_id: PartnerId) -> Candidate {
    Candidate { rule, partner_id: Some(partner_id), touch_id: None, outcome: "won".to_owned() }
}

/// Whether a decision says nothing new. An operator's word is new even when it agrees.
fn same_outcome(before: &Standing, after: &Standing) -> bool {
    let operators = |standing: &Standing| standing.rule == Some(Rule::Operator);
    before.state == after.state
        && before.campaign_id == after.campaign_id
        && before.partner_id == after.partner_id
        && before.first_purchase == after.first_purchase
        && before.reason == after.reason
        && operators(before) == operators(after)
}

fn missing(id: &impl std::fmt::Display) -> Fault {
    Fault::internal(format!("the event of {id} is there, its row is not"))
}

impl Cause {
    fn of(event: &EventRecord) -> Self {
        Self { event_id: Some(event.id), correlation_id: event.correlation_id.clone() }
    }
}

impl FactRef {
    /// The fact that an event records, if it records one.
    fn of(event: &EventRecord) -> Result<Option<Self>> {
        let id = |error: &dyn std::fmt::Display| Fault::internal(format!("subject {}: {error}", event.subject));
        Ok(match event.event_type.as_str() {
            Recorded::TYPE => Some(Self::Conversion(event.subject.parse().map_err(|error| id(&error))?)),
            TouchRecorded::TYPE => Some(Self::Touch(event.subject.parse().map_err(|error| id(&error))?)),
            RefundRecorded::TYPE => Some(Self::Refund(Box::new(event.decode()?), event.time)),
            _ => None,
        })
    }
}

/// The keys that an event of another context makes appear.
pub(crate) fn wait_keys(event: &EventRecord) -> Result<Vec<String>> {
    let partner = |id: PartnerId, references: Vec<Reference>| {
        std::iter::once(partner_key(&id)).chain(references.iter().map(partner_key)).collect()
    };
    let campaign = |id: CampaignId, references: Vec<Reference>| {
        std::iter::once(campaign_key(&id)).chain(references.iter().map(campaign_key)).collect()
    };
    Ok(match event.event_type.as_str() {
        partners::Applied::TYPE => {
            let applied: partners::Applied = event.decode()?;
            partner(applied.partner_id, applied.external_refs)
        }
        partners::Updated::TYPE => {
            let updated: partners::Updated = event.decode()?;
            partner(updated.partner_id, updated.external_refs)
        }
        partners::Activated::TYPE => partner(event.decode::<partners::Activated>()?.partner_id, Vec::new()),
        partners::Rejected::TYPE => partner(event.decode::<partners::Rejected>()?.partner_id, Vec::new()),
        campaigns::Created::TYPE => {
            let created: campaigns::Created = event.decode()?;
            campaign(created.campaign_id, created.external_refs)
        }
        campaigns::Updated::TYPE => {
            let updated: campaigns::Updated = event.decode()?;
            campaign(updated.campaign_id, updated.external_refs)
        }
        campaigns::Activated::TYPE => campaign(event.decode::<campaigns::Activated>()?.campaign_id, Vec::new()),
        campaigns::Cancelled::TYPE => campaign(event.decode::<campaigns::Cancelled>()?.campaign_id, Vec::new()),
        EnrollmentOpened::TYPE => {
            let opened: EnrollmentOpened = event.decode()?;
            let enrollment = enrollment_key(opened.campaign_id, opened.partner_id);
            std::iter::once(enrollment).chain(opened.code.map(|code| code_key(code.as_str()))).collect()
        }
        _ => Vec::new(),
    })
}
