//! Delivery: the planned facts in their shuffled order, a thousand at a time, through the intake queue.

use std::time::{Duration, Instant};

use conversions::{CustomerKeys, Fact, Named, NewConversion, NewRefund, NewTouch, Prepared};
use events::conversions::{ConversionKind, RefundKind};
use kernel::{Amount, Currency, Key, Money, Reason, Result, Timestamp};
use platform::Db;

use super::log::{DAY_SECONDS, Purchase};
use super::plan::{self, Naming, Planned};
use super::setup::{self, OPERATOR, World, key};
use crate::commands::import::progress;
use crate::serve::Service;

/// Facts per request, as for the bulk API.
const BULK: usize = 1_000;
/// Requests under way at once.
const UNDER_WAY: usize = 4;

/// What delivery did.
pub(super) struct Delivery {
    /// Conversions that were delivered, duplicates included.
    pub(super) delivered: i64,
    /// Refunds that were delivered.
    pub(super) refunds: i64,
    /// Chargebacks that are delivered after the payout.
    pub(super) chargebacks: i64,
    /// Facts that had been recorded by an earlier run or an earlier delivery.
    pub(super) known: i64,
    /// How long recording took.
    pub(super) recording: Duration,
    /// From the first delivery until the last commission was computed.
    pub(super) deciding: Duration,
}

/// Delivers everything before the payout.
pub(super) fn run(
    service: &Service,
    db: &Db,
    keys: &CustomerKeys,
    world: &World,
    log: &[Purchase],
    quiet: bool,
) -> anyhow::Result<Delivery> {
    let planned = plan::deliveries(log);
    let count = |wanted: fn(&Planned) -> bool| {
        i64::try_from(planned.iter().filter(|fact| wanted(fact)).count()).unwrap_or(i64::MAX)
    };
    let bar = if quiet { indicatif::ProgressBar::hidden() } else { progress(planned.len() as u64) };
    bar.set_message("facts recorded");
    let began = now();
    let mut known = 0;
    let mut waiting = std::collections::VecDeque::new();
    for chunk in planned.chunks(BULK) {
        let facts = chunk.iter().map(|fact| prepare(fact, world, keys, db.now())).collect::<Result<Vec<_>>>()?;
        let (job, answer) = web::Job::new(OPERATOR.into(), facts, None);
        service.intake().submit(job)?;
        waiting.push_back(answer);
        if waiting.len() == UNDER_WAY {
            known += settle(waiting.pop_front(), &bar)?;
        }
    }
    while !waiting.is_empty() {
        known += settle(waiting.pop_front(), &bar)?;
    }
    let recording = began.elapsed();
    bar.set_message("facts recorded; deciding");
    wait_until_decided(service, db);
    bar.finish_and_clear();
    Ok(Delivery {
        delivered: count(|fact| matches!(fact, Planned::Sale(_))),
        refunds: count(|fact| matches!(fact, Planned::Refund { .. })),
        chargebacks: i64::try_from(plan::charged_back(log).len())?,
        known,
        recording,
        deciding: began.elapsed(),
    })
}

/// Waits for the answers to one request; a fact that is refused is a defect of the demo.
fn settle(answer: Option<web::Answer>, bar: &indicatif::ProgressBar) -> anyhow::Result<i64> {
    let Some(answer) = answer else { return Ok(0) };
    let web::Outcome::Recorded(receipts) = answer.blocking_recv()?? else { return Ok(0) };
    let mut known = 0;
    for receipt in receipts {
        known += i64::from(receipt?.duplicate);
        bar.inc(1);
    }
    Ok(known)
}

/// Waits until every consumer has come to the head of the log.
pub(super) fn wait_until_decided(service: &Service, db: &Db) {
    loop {
        let head = db.head();
        let positions = service.positions();
        if !positions.is_empty() && positions.iter().all(|(_, position)| *position >= head) && head == db.head() {
            return;
        }
        pause();
    }
}

/// Delivers the chargebacks.
pub(super) fn charge_back(db: &Db, keys: &CustomerKeys, log: &[Purchase]) -> Result<()> {
    for chunk in plan::charged_back(log).chunks(BULK) {
        let prepared: Vec<Prepared> = chunk
            .iter()
            .map(|sale| conversions::prepare(Fact::Refund(chargeback(sale)), keys, db.now()))
            .collect::<Result<_>>()?;
        let correlations = vec![None; prepared.len()];
        let receipts = db
            .write("intake", platform::Lane::Front, OPERATOR, |tx| conversions::record(tx, &prepared, &correlations))?;
        receipts.into_iter().collect::<Result<Vec<_>>>()?;
    }
    Ok(())
}

fn prepare(planned: &Planned, world: &World, keys: &CustomerKeys, now: Timestamp) -> Result<Prepared> {
    let fact = match planned {
        Planned::Touch { customer, number, partner, at_seconds } => Fact::Touch(NewTouch {
            source: key("cdnow"),
            external_id: key(&format!("touch-{customer:05}-{number}")),
            campaign_id: Named::Id(world.campaign_id),
            partner_id: Named::Id(world.partner(*partner)),
            customer_ref: customer_ref(*customer),
            kind: key("click"),
            occurred_at: at(*at_seconds),
            click_id: None,
        }),
        Planned::Sale(sale) => Fact::Conversion(conversion(sale, world)),
        Planned::Refund { sale, amount_minor } => Fact::Refund(NewRefund {
            source: key("cdnow"),
            external_id: key(&format!("refund-{}", sale.line)),
            conversion_source: None,
            conversion_external_id: key(&sale.line.to_string()),
            occurred_at: at(plan::sold_at_seconds(sale) + 10 * DAY_SECONDS),
            amount: Some(usd(*amount_minor)?),
            reason: reason("half of it came back"),
            kind: RefundKind::Refund,
        }),
    };
    conversions::prepare(fact, keys, now)
}

fn conversion(sale: &Purchase, world: &World) -> NewConversion {
    let naming = plan::naming(sale.customer);
    NewConversion {
        source: key("cdnow"),
        external_id: key(&sale.line.to_string()),
        kind: ConversionKind::Sale,
        campaign_id: Some(Named::Id(world.campaign_id)),
        partner_id: if let Naming::Partner(number) = naming { Some(Named::Id(world.partner(number))) } else { None },
        click_id: None,
        code: if let Naming::Code(number) = naming { Some(setup::code(number)) } else { None },
        customer_ref: Some(customer_ref(sale.customer)),
        occurred_at: at(plan::sold_at_seconds(sale)),
        amount: usd(sale.amount_minor).expect("the log has no negative amount"),
        lines: Vec::new(),
        metadata: None,
        terms: None,
    }
}

fn chargeback(sale: &Purchase) -> NewRefund {
    NewRefund {
        source: key("cdnow"),
        external_id: key(&format!("chargeback-{}", sale.line)),
        conversion_source: None,
        conversion_external_id: key(&sale.line.to_string()),
        occurred_at: at(plan::sold_at_seconds(sale) + 60 * DAY_SECONDS),
        amount: None,
        reason: reason("charged back by the bank"),
        kind: RefundKind::Chargeback,
    }
}

fn reason(text: &str) -> Reason {
    Reason::new(text).expect("the demo's reasons are valid")
}

fn customer_ref(customer: u32) -> Key {
    key(&format!("{customer:05}"))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn usd(amount_minor: i64) -> Result<Amount> {
    Amount::new(Money::new(amount_minor, Currency::USD))
}

#[expect(clippy::disallowed_methods, reason = "the demo reports how long recording took")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the demo waits for the reactions' thread")]
fn pause() {
    std::thread::sleep(super::LOOK_AGAIN);
}
