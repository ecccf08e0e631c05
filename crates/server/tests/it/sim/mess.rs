//! What people do while facts arrive: approvals, suspensions, terms, budgets, payouts, adjustments, at any moment and often
//! against the rules. A command may be refused; it must never fail, and never break a promise.

use campaigns::CampaignAction;
use commissions::{CommissionAction, CommissionFilter, CommissionView, views};
use events::partners::PartnerReference;
use events::payments::{AdjustmentState, PayoutState};
use kernel::{CampaignId, Money, PartnerId, Reason, Timestamp};
use partners::PartnerAction;
use platform::{Page, Reader, Tx, published};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::json;

use super::plan::{FactRef, HALF_DAY};
use super::told;
use super::world::{Sim, Verdict, refused_or_done};

/// Two operators: some things need a second person.
const OPERATORS: [&str; 2] = ["anna", "bert"];

/// One random command.
pub(super) fn command(sim: &mut Sim) -> Verdict {
    match sim.rng.random_range(0..22) {
        0..=3 => change_commission(sim),
        4 => approve_many(sim),
        5 | 6 => change_partner(sim),
        7 => change_campaign(sim),
        8 => publish_terms(sim),
        9 => change_budget(sim),
        10 => enroll(sim),
        11 => close_enrollment(sim),
        12 => attribute(sim),
        13 | 14 => create_payout(sim),
        15..=17 => move_payout(sim),
        18 | 19 => adjust(sim),
        20 => approve_adjustment(sim),
        _ => rebuild(sim),
    }
}

fn pick<T: Clone>(sim: &mut Sim, from: &[T]) -> Option<T> {
    from.choose(&mut sim.rng).cloned()
}

fn issue(sim: &mut Sim, what: &str, work: impl Fn(&mut Tx<'_>) -> kernel::Result<()>) -> Verdict {
    let actor = pick(sim, &OPERATORS).expect("two of them");
    let answer = sim.command(actor, |tx| work(tx).map(|()| String::new()));
    refused_or_done(what, answer).map(|_| ())
}

fn read<T>(sim: &Sim, work: impl FnOnce(&Reader<'_>) -> kernel::Result<T>) -> T {
    sim.db.read(work).expect("reading works")
}

fn partner(sim: &mut Sim) -> Option<PartnerId> {
    let all: Vec<PartnerId> = sim.names.partners.values().copied().collect();
    pick(sim, &all)
}

fn campaign(sim: &mut Sim) -> Option<CampaignId> {
    let all: Vec<CampaignId> = sim.names.campaigns.values().copied().collect();
    pick(sim, &all)
}

fn commissions(sim: &Sim) -> Vec<CommissionView> {
    read(sim, |reader| views::list(reader, &CommissionFilter::default(), &Page::first(500))).items
}

fn change_commission(sim: &mut Sim) -> Verdict {
    let all = commissions(sim);
    let Some(commission) = pick(sim, &all) else { return Ok(()) };
    let action = pick(sim, CommissionAction::ALL).expect("not empty");
    let reason = sim.rng.random_ratio(1, 2).then(|| Reason::new("looked at it").expect("short"));
    issue(sim, "changing a commission", |tx| commissions::change(tx, commission.id, action, reason.clone()).map(|_| ()))
}

fn approve_many(sim: &mut Sim) -> Verdict {
    let mut ids: Vec<_> = commissions(sim).into_iter().map(|commission| commission.id).collect();
    ids.retain(|_| sim.rng.random_ratio(1, 3));
    ids.extend(ids.first().copied());
    issue(sim, "approving many", |tx| commissions::approve_many(tx, &ids).map(|_| ()))
}

fn change_partner(sim: &mut Sim) -> Verdict {
    use PartnerAction as A;
    let Some(id) = partner(sim) else { return Ok(()) };
    let actions = [A::Activate, A::Activate, A::Suspend, A::Reinstate, A::Reinstate, A::Reject];
    let action = if sim.rng.random_ratio(1, 12) { A::Terminate } else { pick(sim, &actions).expect("not empty") };
    issue(sim, "changing a partner", |tx| partners::change(tx, id, action, None).map(|_| ()))
}

fn change_campaign(sim: &mut Sim) -> Verdict {
    use CampaignAction as A;
    let Some(id) = campaign(sim) else { return Ok(()) };
    let last = sim.rng.random_ratio(1, 10);
    let actions: &[A] = if last { &[A::Complete, A::Cancel] } else { &[A::Activate, A::Pause, A::Resume, A::Resume] };
    let action = pick(sim, actions).expect("not empty");
    issue(sim, "changing a campaign", |tx| campaigns::change(tx, id, action, None).map(|_| ()))
}

fn ahead(sim: &mut Sim) -> Timestamp {
    let later = sim.now() + sim.rng.random_range(-1..=3) * HALF_DAY;
    told::at(later)
}

fn publish_terms(sim: &mut Sim) -> Verdict {
    let Some(id) = campaign(sim) else { return Ok(()) };
    let all: Vec<_> = sim.plan.world.campaigns.iter().flat_map(|campaign| &campaign.terms).cloned().collect();
    let terms = pick(sim, &all).expect("every campaign has terms");
    let valid_from = ahead(sim).to_string();
    let body = json!({"valid_from": valid_from, "terms": told::terms(&terms)});
    let publish: campaigns::PublishTerms = serde_json::from_value(body).expect("well formed");
    issue(sim, "publishing terms", |tx| publish.run(tx, id).map(|_| ()))
}

fn change_budget(sim: &mut Sim) -> Verdict {
    let Some(id) = campaign(sim) else { return Ok(()) };
    let currency = read(sim, |reader| campaigns::views::one(reader, id)).currency;
    let budget = sim.rng.random_ratio(3, 4).then(|| Money::new(sim.rng.random_range(0..3_000), currency));
    let change: campaigns::ChangeBudget = serde_json::from_value(json!({"budget": budget})).expect("well formed");
    issue(sim, "changing a budget", |tx| change.run(tx, id).map(|_| ()))
}

fn enroll(sim: &mut Sim) -> Verdict {
    let (Some(id), Some(partner_id)) = (campaign(sim), partner(sim)) else { return Ok(()) };
    let code = sim.rng.random_ratio(1, 2).then(|| format!("N{}", sim.tally.commands));
    let body = json!({"partner_id": partner_id, "code": code});
    let enroll: campaigns::Enroll = serde_json::from_value(body).expect("well formed");
    issue(sim, "enrolling", |tx| enroll.run(tx, id).map(|_| ()))
}

fn close_enrollment(sim: &mut Sim) -> Verdict {
    let Some(id) = campaign(sim) else { return Ok(()) };
    let filter = campaigns::EnrollmentFilter::default();
    let all = read(sim, |reader| campaigns::views::enrollments(reader, id, &filter, &Page::first(100))).items;
    let Some(enrollment) = pick(sim, &all) else { return Ok(()) };
    let to = sim.rng.random_ratio(1, 3).then(|| ahead(sim));
    issue(sim, "closing an enrolment", |tx| campaigns::CloseEnrollment { to }.run(tx, id, enrollment.id).map(|_| ()))
}

fn attribute(sim: &mut Sim) -> Verdict {
    let is_conversion = |fact: usize| matches!(sim.plan.facts[fact].fact, FactRef::Conversion(_));
    let ids = sim.receipts.iter().filter(|(fact, _)| is_conversion(**fact)).map(|(_, receipt)| receipt.id.clone());
    let ids: Vec<String> = ids.collect();
    let (Some(id), Some(partner_id)) = (pick(sim, &ids), partner(sim)) else { return Ok(()) };
    let campaign_id = if sim.rng.random_ratio(1, 3) { campaign(sim) } else { None };
    let body = json!({"partner_id": partner_id, "campaign_id": campaign_id, "reason": "the customer said so"});
    let attribute: conversions::Attribute = serde_json::from_value(body).expect("well formed");
    let id = id.parse().expect("an id");
    issue(sim, "attributing", |tx| attribute.run(tx, id).map(|_| ()))
}

pub(super) fn approve_everything(sim: &mut Sim) -> Verdict {
    let ids: Vec<_> = commissions(sim).into_iter().map(|commission| commission.id).collect();
    issue(sim, "approving everything", |tx| commissions::approve_many(tx, &ids).map(|_| ()))
}

pub(super) fn create_payout_of_all(sim: &mut Sim, currency: &str) -> Verdict {
    let body = json!({"currency": currency, "cut_off": told::at(sim.db.now().as_micros()).to_string()});
    let create: payments::CreatePayout = serde_json::from_value(body).expect("well formed");
    let settings = sim.settings.payments;
    issue(sim, "creating a payout", |tx| create.run(tx, &settings).map(|_| ()))
}

fn create_payout(sim: &mut Sim) -> Verdict {
    let currency = pick(sim, &["USD", "USD", "EUR", "JPY"]).expect("not empty");
    let cut_off = sim.db.now().as_micros() - if sim.rng.random_ratio(1, 3) { HALF_DAY } else { 0 };
    let mut commission_ids: Option<Vec<_>> = None;
    if sim.rng.random_ratio(1, 4) {
        let all = commissions(sim);
        let chosen = all.iter().filter(|c| c.currency.as_str() == currency).map(|c| c.id);
        commission_ids = Some(chosen.filter(|_| sim.rng.random_ratio(1, 3)).collect());
    }
    let minimum = sim.rng.random_ratio(1, 3).then(|| json!({"amount_minor": 50, "currency": currency}));
    let body = json!({"currency": currency, "cut_off": told::at(cut_off).to_string(), "commission_ids": commission_ids,
        "minimum": minimum, "dry_run": sim.rng.random_ratio(1, 5)});
    let create: payments::CreatePayout = serde_json::from_value(body).expect("well formed");
    let settings = sim.settings.payments;
    issue(sim, "creating a payout", |tx| create.run(tx, &settings).map(|_| ()))
}

/// The next step of a batch, or one that is not its turn.
pub(super) fn move_payout(sim: &mut Sim) -> Verdict {
    let filter = payments::PayoutFilter::default();
    let all = read(sim, |reader| payments::views::list(reader, &filter, &Page::first(200))).items;
    let open: Vec<_> = all.into_iter().filter(|payout| payout.state != PayoutState::Completed).collect();
    let Some(payout) = pick(sim, &open) else { return Ok(()) };
    let settings = sim.settings.payments;
    let next = if payout.state == PayoutState::Draft { 0 } else { 1 };
    let which = if sim.rng.random_ratio(3, 4) { next } else { sim.rng.random_range(0..3) };
    issue(sim, "moving a payout", |tx| match which {
        0 => payments::approve(tx, payout.id, &settings).map(|_| ()),
        1 => payments::submit(tx, payout.id).map(|_| ()),
        _ => payments::cancel(tx, payout.id).map(|_| ()),
    })
}

fn adjust(sim: &mut Sim) -> Verdict {
    let Some(partner_id) = partner(sim) else { return Ok(()) };
    let currency = pick(sim, &["USD", "EUR", "JPY"]).expect("not empty");
    if sim.rng.random_ratio(1, 3) {
        let body = json!({"partner_id": partner_id, "currency": currency, "reason": "never mind"});
        let write_off: payments::WriteOff = serde_json::from_value(body).expect("well formed");
        return issue(sim, "asking for a write-off", |tx| write_off.run(tx).map(|_| ()));
    }
    let amount = json!({"amount_minor": sim.rng.random_range(-200..=200), "currency": currency});
    let body = json!({"partner_id": partner_id, "amount": amount, "reason": "sorry"});
    let request: payments::RequestAdjustment = serde_json::from_value(body).expect("well formed");
    issue(sim, "asking for an adjustment", |tx| request.run(tx).map(|_| ()))
}

fn approve_adjustment(sim: &mut Sim) -> Verdict {
    let filter = payments::AdjustmentFilter { state: Some(AdjustmentState::Requested), ..Default::default() };
    let all = read(sim, |reader| payments::views::adjustments(reader, &filter, &Page::first(100))).items;
    let Some(adjustment) = pick(sim, &all) else { return Ok(()) };
    issue(sim, "approving an adjustment", |tx| payments::approve_adjustment(tx, adjustment.id).map(|_| ()))
}

fn rebuild(sim: &mut Sim) -> Verdict {
    issue(sim, "rebuilding the reports", |tx| reports::rebuild(tx).map(|_| ()))
}

/// The partner that was created for facts that named it by its reference.
pub(super) fn provisional(sim: &Sim, name: &str) -> Option<PartnerId> {
    let key = format!("crm:{name}");
    let found = read(sim, |reader| published::get_one::<PartnerReference>(reader, key.as_bytes()));
    found.map(|found| found.partner_id)
}

/// Whoever was created for a fact becomes active, at a moment that does not matter.
pub(super) fn activate_provisional(sim: &mut Sim) -> Verdict {
    sim.catch_up()?;
    let Some(id) = provisional(sim, "nobody") else { return Ok(()) };
    sim.names.partners.insert("nobody".to_owned(), id);
    let activate =
        sim.command("operator", |tx| partners::change(tx, id, PartnerAction::Activate, None).map(|_| String::new()));
    refused_or_done("activating a provisional partner", activate).map(|_| ())
}
