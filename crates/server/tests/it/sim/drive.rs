//! What happens in a world, in which phases: the set-up, the deliveries, the time in which holds end, the aftermath.

use conversions::{Prepared, Receipt, prepare, record};
use kernel::Fault;
use platform::{Lane, Tx};
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;

use super::mess;
use super::plan::{AFTER, Command, DELIVERED, DELIVERY, FactRef, HALF_DAY, Mode};
use super::told;
use super::world::{Sim, Verdict};
use super::{invariants, plan::DAY};

const MINUTE: i64 = 60_000_000;

/// Runs the world of a seed to its end.
pub(super) fn run(sim: &mut Sim) -> Verdict {
    sim.is_stormy = true;
    set_up(sim)?;
    let facts = 0..sim.plan.facts.len();
    let names = &sim.names;
    sim.bodies = facts.map(|fact| told::body(&sim.plan, names, &sim.plan.facts[fact])).collect();
    sim.tally.facts = sim.plan.facts.len() as u64;
    sim.advance_to(DELIVERY);
    deliveries(sim)?;
    if sim.plan.mode == Mode::Twin && sim.plan.provision {
        mess::activate_provisional(sim)?;
    }
    let late = queue(sim, true);
    let late = holds(sim, late)?;
    if sim.plan.mode == Mode::Commands {
        pay_days(sim, late)?;
    }
    aftermath(sim)
}

fn set_up(sim: &mut Sim) -> Verdict {
    for (at, command) in sim.plan.setup.clone() {
        sim.advance_to(at);
        must_succeed(sim, command)?;
        if sim.rng.random_ratio(1, 4) {
            some_step(sim)?;
        }
    }
    Ok(())
}

fn must_succeed(sim: &mut Sim, command: Command) -> Verdict {
    execute(sim, command).map_err(|fault| format!("invariant: the plan's {command:?} was refused: {fault}"))
}

/// Executes a command of the plan.
fn execute(sim: &mut Sim, command: Command) -> Result<(), Fault> {
    let world = &sim.plan.world;
    match command {
        Command::Apply(partner) => {
            let name = world.partners[partner].id.clone();
            let apply: partners::Apply = parsed(told::apply(&name));
            let id = sim.command("operator", |tx| Ok(apply.run(tx)?.id.to_string()));
            // A fact may have made it exist already, provisionally.
            let id = id.or_else(|fault| mess::provisional(sim, &name).map(|id| id.to_string()).ok_or(fault))?;
            sim.names.partners.insert(name, id.parse().expect("an id"));
        }
        Command::Create(campaign) => {
            let name = world.campaigns[campaign].id.clone();
            let budget = sim.plan.budgets[campaign];
            let create: campaigns::Create = parsed(told::create(&world.campaigns[campaign], budget));
            let id = sim.command("operator", |tx| Ok(create.run(tx)?.id.to_string()))?;
            sim.names.campaigns.insert(name, id.parse().expect("an id"));
        }
        Command::Partner(partner, action) => {
            let id = sim.names.partners[&world.partners[partner].id];
            done(sim, |tx| partners::change(tx, id, action, None).map(|_| ()))?;
        }
        Command::Campaign(campaign, action) => {
            let id = sim.names.campaigns[&world.campaigns[campaign].id];
            done(sim, |tx| campaigns::change(tx, id, action, None).map(|_| ()))?;
        }
        Command::Publish { campaign, terms } => {
            let campaign = &world.campaigns[campaign];
            let id = sim.names.campaigns[&campaign.id];
            let publish: campaigns::PublishTerms = parsed(told::publish(&campaign.terms[terms]));
            done(sim, |tx| publish.run(tx, id).map(|_| ()))?;
        }
        Command::Enroll(enrollment) => {
            let enrollment = &world.enrollments[enrollment];
            let id = sim.names.campaigns[&enrollment.campaign];
            let enroll: campaigns::Enroll = parsed(told::enroll(enrollment, &sim.names));
            done(sim, |tx| enroll.run(tx, id).map(|_| ()))?;
        }
    }
    Ok(())
}

fn parsed<T: serde::de::DeserializeOwned>(body: serde_json::Value) -> T {
    serde_json::from_value(body).expect("the plan's commands are well formed")
}

fn done(sim: &mut Sim, work: impl Fn(&mut Tx<'_>) -> kernel::Result<()>) -> Result<(), Fault> {
    sim.command("operator", |tx| work(tx).map(|()| String::new())).map(|_| ())
}

/// A step of a consumer or of a timer.
fn some_step(sim: &mut Sim) -> Verdict {
    if sim.rng.random_ratio(3, 4) { sim.step_one() } else { sim.tend_one() }
}

/// Every fact once, some more often, in any order.
fn queue(sim: &mut Sim, late: bool) -> Vec<usize> {
    let mut queue = Vec::new();
    for fact in (0..sim.plan.facts.len()).filter(|fact| sim.plan.facts[*fact].late == late) {
        let times = if sim.rng.random_ratio(1, 4) { sim.rng.random_range(2..=3) } else { 1 };
        queue.extend(std::iter::repeat_n(fact, times));
    }
    queue.shuffle(&mut sim.rng);
    queue
}

fn deliveries(sim: &mut Sim) -> Verdict {
    let mut queue = queue(sim, false);
    let mut late = sim.plan.late.clone();
    // With commands in the world facts may come long after the first hold has ended.
    let (until, longest_pause) = match sim.plan.mode {
        Mode::Commands => (AFTER + 4 * HALF_DAY, 16 * 60 * MINUTE),
        _ => (DELIVERED, 2 * 60 * MINUTE),
    };
    while !queue.is_empty() || !late.is_empty() {
        match sim.rng.random_range(0..10) {
            0..=2 => deliver(sim, &mut queue)?,
            3..=6 => some_step(sim)?,
            7 => {
                let pause = sim.rng.random_range(0..longest_pause);
                let now = sim.now();
                sim.advance_to((now + pause).min(until));
            }
            8 if !late.is_empty() => {
                let chain = sim.rng.random_range(0..late.len());
                let command = late[chain].remove(0);
                late.retain(|chain| !chain.is_empty());
                let executed = execute(sim, command);
                if sim.plan.mode != Mode::Commands {
                    executed.map_err(|fault| format!("invariant: {command:?} was refused: {fault}"))?;
                }
            }
            _ if sim.plan.mode == Mode::Commands => mess::command(sim)?,
            _ => contradict(sim)?,
        }
        if sim.rng.random_ratio(1, 30) {
            invariants::at_any_time(sim)?;
        }
    }
    Ok(())
}

/// The time in which holds end: it jumps, refunds come late, consumers lag.
fn holds(sim: &mut Sim, mut queue: Vec<usize>) -> Verdict<Vec<usize>> {
    let until = match sim.plan.mode {
        Mode::Commands => AFTER + 16 * HALF_DAY,
        _ => AFTER,
    };
    // With commands in the world, some refunds are left for the time after a payout.
    let is_done = |sim: &Sim, queue: &[usize]| queue.is_empty() || sim.plan.mode == Mode::Commands;
    while sim.now() < until || !is_done(sim, &queue) {
        match sim.rng.random_range(0..8) {
            0 => {
                let jump = if sim.rng.random_ratio(1, 2) { HALF_DAY } else { sim.rng.random_range(1..DAY) };
                let now = sim.now();
                sim.advance_to((now + jump).min(until));
            }
            1 if sim.now() > DELIVERED => deliver(sim, &mut queue)?,
            2 | 4 if sim.plan.mode == Mode::Commands => mess::command(sim)?,
            3 => sim.tend_one()?,
            _ => some_step(sim)?,
        }
    }
    Ok(queue)
}

/// What is owed is paid, and taken back meanwhile: batches, the bank's answers, chargebacks after payment.
fn pay_days(sim: &mut Sim, mut queue: Vec<usize>) -> Verdict {
    for _ in 0..sim.rng.random_range(1..=3) {
        mess::approve_everything(sim)?;
        sim.catch_up()?;
        for currency in ["USD", "EUR", "JPY"] {
            mess::create_payout_of_all(sim, currency)?;
        }
        for _ in 0..sim.rng.random_range(10..60) {
            match sim.rng.random_range(0..10) {
                0 => {
                    let later = sim.now() + sim.rng.random_range(0..180) * MINUTE;
                    sim.advance_to(later);
                }
                1 => deliver(sim, &mut queue)?,
                2 => mess::command(sim)?,
                3..=5 => mess::move_payout(sim)?,
                6 | 7 => sim.pay_one()?,
                _ => some_step(sim)?,
            }
        }
    }
    while !queue.is_empty() {
        deliver(sim, &mut queue)?;
    }
    Ok(())
}

/// Suspended partners come back or leave; payouts get their outcomes; then nothing is left to do.
fn aftermath(sim: &mut Sim) -> Verdict {
    sim.settle()?;
    for (at, command) in sim.plan.after.clone() {
        sim.advance_to(at);
        let executed = execute(sim, command);
        if sim.plan.mode != Mode::Commands {
            executed.map_err(|fault| format!("invariant: {command:?} was refused: {fault}"))?;
        }
        sim.settle()?;
    }
    sim.is_stormy = false;
    let hours = if sim.plan.mode == Mode::Commands { 40 } else { 1 };
    for _ in 0..hours {
        sim.settle()?;
        let now = sim.now();
        sim.advance_to(now + 61 * MINUTE);
    }
    sim.sweep()?;
    sim.settle()
}

/// Delivers a part of the queue as one batch. What a crash leaves in doubt is delivered again.
fn deliver(sim: &mut Sim, queue: &mut Vec<usize>) -> Verdict {
    let size = sim.rng.random_range(1..=12).min(queue.len());
    let batch = queue.split_off(queue.len() - size);
    if batch.is_empty() {
        return Ok(());
    }
    let answers = sim.attempt(|sim| intake(sim, &batch));
    match answers {
        None => {
            sim.in_doubt.extend(&batch);
            queue.extend(batch);
            queue.shuffle(&mut sim.rng);
            Ok(())
        }
        Some(Err(fault)) => Err(format!("invariant: a delivery failed as a whole: {fault}")),
        Some(Ok(answers)) => {
            sim.tally.deliveries += 1;
            batch.into_iter().zip(answers).try_for_each(|(fact, answer)| answered(sim, fact, answer))
        }
    }
}

fn intake(sim: &Sim, batch: &[usize]) -> kernel::Result<Vec<kernel::Result<Receipt>>> {
    let now = sim.db.now();
    let ready = |fact: &usize| {
        let body = told::fact(sim.plan.facts[*fact].fact, &sim.bodies[*fact]);
        prepare(body, &sim.keys, now)
    };
    let prepared: Vec<Prepared> = batch.iter().map(ready).collect::<kernel::Result<_>>()?;
    let correlations = vec![None; prepared.len()];
    sim.db.write("intake", Lane::Front, "shop", |tx| record(tx, &prepared, &correlations))
}

/// Rules section 1: the first answer, for ever.
fn answered(sim: &mut Sim, fact: usize, answer: kernel::Result<Receipt>) -> Verdict {
    let what = &sim.plan.facts[fact].fact;
    match (answer, sim.receipts.get(&fact)) {
        (Ok(receipt), Some(first)) => {
            sim.tally.repeats += 1;
            let same =
                (&receipt.id, receipt.position, receipt.recorded_at) == (&first.id, first.position, first.recorded_at);
            if !receipt.duplicate || !same {
                return Err(format!("invariant: {what:?} was recorded twice: {first:?}, then {receipt:?}"));
            }
        }
        (Ok(receipt), None) => {
            if receipt.duplicate && !sim.in_doubt.contains(&fact) {
                return Err(format!("invariant: {what:?} is called a repeat the first time: {receipt:?}"));
            }
            sim.refused.remove(&fact);
            sim.receipts.insert(fact, receipt);
        }
        (Err(fault), Some(first)) => {
            return Err(format!("invariant: {what:?}, recorded as {first:?}, is refused when repeated: {fault}"));
        }
        (Err(fault), None) if may_be_refused(sim, fact, &fault) => {
            sim.tally.refused += 1;
            sim.refused.insert(fact);
        }
        (Err(fault), None) => return Err(format!("invariant: {what:?} was refused: {fault}")),
    }
    Ok(())
}

/// A foreign currency or a refund above its sale; nothing else in these worlds.
fn may_be_refused(sim: &Sim, fact: usize, fault: &Fault) -> bool {
    let world = &sim.plan.world;
    match sim.plan.facts[fact].fact {
        FactRef::Touch(_) => false,
        FactRef::Conversion(index) => {
            let conversion = &world.conversions[index];
            let campaign = conversion.campaign.as_ref().and_then(|campaign| world.campaign(campaign));
            let is_foreign = campaign.is_some_and(|campaign| campaign.currency != conversion.currency);
            fault.code() == "currency_mismatch" && is_foreign
        }
        FactRef::Refund(index) => {
            let refund = &world.refunds[index];
            let sale = world.conversions.iter().find(|sale| sale.key == super::reference_money::sale_key(refund));
            let (Some(sale), Some((amount_minor, currency))) = (sale, &refund.amount) else { return false };
            match fault.code() {
                "currency_mismatch" => *currency != sale.currency,
                "refund_exceeds_conversion" => *amount_minor > sale.amount_minor,
                _ => false,
            }
        }
    }
}

/// The key of a recorded fact with another body: refused, and nothing changes.
fn contradict(sim: &mut Sim) -> Verdict {
    let count = sim.receipts.len();
    if count == 0 {
        return Ok(());
    }
    let place = sim.rng.random_range(0..count);
    let fact = *sim.receipts.keys().nth(place).expect("in range");
    let mut body = sim.bodies[fact].clone();
    body["occurred_at"] = json!("2026-03-03T03:03:03Z");
    let told = told::fact(sim.plan.facts[fact].fact, &body);
    let prepared = prepare(told, &sim.keys, sim.db.now()).map_err(|fault| format!("invariant: {fault}"))?;
    let head = sim.db.head();
    let answer = sim.attempt(|sim| {
        sim.db.write("intake", Lane::Front, "shop", |tx| record(tx, std::slice::from_ref(&prepared), &[None]))
    });
    let Some(answer) = answer else { return Ok(()) };
    let answer = answer.map_err(|fault| format!("invariant: a delivery failed as a whole: {fault}"))?.remove(0);
    match answer {
        Err(fault) if fault.code() == "fact_differs" && sim.db.head() == head => Ok(()),
        other => Err(format!("invariant: another body under a used key was answered with {other:?}")),
    }
}
