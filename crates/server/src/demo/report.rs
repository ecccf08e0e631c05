//! The demo's figures: one document for programs, tables for people.

use std::net::SocketAddr;

use kernel::Result;
use platform::{Check, Db, parking};
use serde::Serialize;
use serde_json::json;

use super::Outcome;
use crate::cli::Common;
use crate::commands::verify::{self, Finding};
use crate::output::{Table, amount, bold, faint, good, say};

/// The figures after the chargebacks and before payout 2.
#[derive(Serialize)]
pub(super) struct Figures<'a> {
    funnel: Funnel,
    partners: Vec<PartnerRow>,
    payouts: serde_json::Value,
    trial_balance: Vec<ledger::AccountLine>,
    verify: Vec<Finding<'a>>,
    events: i64,
    /// Events that this run added; 0 when it ran before.
    events_added: i64,
    /// The database file when everything was approved, before the payouts; on a second run as in the end.
    approved_bytes: u64,
    /// The database file in the end.
    database_bytes: u64,
    recording_seconds: f64,
    conversions_per_second: f64,
}

#[derive(Serialize)]
struct Funnel {
    delivered: i64,
    duplicates: i64,
    recorded: i64,
    attributed: i64,
    unattributed: i64,
    rejected: i64,
    touches: i64,
    refunds: i64,
    chargebacks: i64,
    parked: i64,
    resumed: i64,
}

#[derive(Serialize)]
struct PartnerRow {
    number: u32,
    partner_id: kernel::PartnerId,
    accrued_minor: i64,
    reversed_minor: i64,
    paid_minor: i64,
    payable_minor: i64,
}

/// Collects the figures from the database.
pub(super) fn figures<'a>(db: &Db, outcome: &Outcome, checks: &'a [Check], added: i64) -> Result<Figures<'a>> {
    let delivery = &outcome.delivery;
    db.read(|reader| {
        let counts = conversions::views::counts(reader)?;
        let (parked, resumed) = parking::count(reader)?;
        let head = platform::event_log::head(reader)?;
        let balances = ledger::balances(reader, head, None)?;
        let partners = (1..).zip(&outcome.world.partners).map(|(number, &partner_id)| {
            let found = balances.iter().find(|balance| balance.partner_id == partner_id);
            let balance = found.map(|found| found.balance).unwrap_or_default();
            PartnerRow {
                number,
                partner_id,
                accrued_minor: balance.accrued_minor,
                reversed_minor: balance.reversed_minor,
                paid_minor: balance.paid_minor,
                payable_minor: balance.payable_minor,
            }
        });
        Ok(Figures {
            funnel: Funnel {
                delivered: delivery.delivered,
                duplicates: delivery.delivered - counts.recorded,
                recorded: counts.recorded,
                attributed: counts.attributed,
                unattributed: counts.unattributed,
                rejected: counts.rejected,
                touches: counts.touches,
                refunds: delivery.refunds,
                chargebacks: delivery.chargebacks,
                parked,
                resumed,
            },
            partners: partners.collect(),
            payouts: payouts(outcome),
            trial_balance: ledger::trial_balance(reader, head)?,
            verify: verify::findings(checks),
            events: head,
            events_added: added,
            approved_bytes: outcome.approved_bytes,
            database_bytes: db.file_bytes(),
            recording_seconds: delivery.recording.as_secs_f64(),
            conversions_per_second: rate(delivery.delivered, delivery.recording),
        })
    })
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a rate for people, not money")]
fn rate(count: i64, time: std::time::Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(0.001)
}

fn payouts(outcome: &Outcome) -> serde_json::Value {
    let (first, second) = (&outcome.payouts.first, &outcome.payouts.second);
    let number =
        |partner: kernel::PartnerId| outcome.world.partners.iter().position(|&id| id == partner).map(|place| place + 1);
    let lines = |payout: &payments::PayoutView| {
        let items = payout.items.iter().map(|item| {
            json!({ "number": number(item.partner_id), "amount_minor": item.amount.amount_minor, "outcome": item.state })
        });
        items.collect::<Vec<_>>()
    };
    let total = |payout: &payments::PayoutView| payout.items.iter().map(|item| item.amount.amount_minor).sum::<i64>();
    let carried: Vec<serde_json::Value> = second
        .carried
        .iter()
        .map(|carried| json!({ "number": number(carried.partner_id), "amount_minor": carried.amount.amount_minor }))
        .collect();
    json!([
        { "number": 1, "dry_run": false, "total_minor": total(first), "items": lines(first) },
        { "number": 2, "dry_run": true, "total_minor": total(second), "items": second.items.iter().map(|item| {
            json!({ "number": number(item.partner_id), "amount_minor": item.amount.amount_minor })
        }).collect::<Vec<_>>(), "carried": carried },
    ])
}

/// Prints everything for people.
pub(super) fn print(
    figures: &Figures<'_>,
    outcome: &Outcome,
    checks: &[Check],
    common: &Common,
    address: SocketAddr,
) -> anyhow::Result<()> {
    if figures.events_added == 0 {
        say!(
            "{}\n",
            good("This demo has run on this data before: every fact was known already, and nothing was added.")
        );
    }
    print_funnel(figures, outcome);
    print_partners(figures);
    print_payouts(outcome);
    say!("\n{}", bold("Trial balance"));
    let mut table = Table::new(&["account", "debit", "credit", "balance"]);
    for line in &figures.trial_balance {
        table.row([
            line.account.clone(),
            amount(line.debit_minor),
            amount(line.credit_minor),
            amount(line.balance_minor),
        ]);
    }
    table.print();
    say!("\n{}", bold("Verify"));
    verify::print(checks);
    let what = if figures.events_added == 0 { "answered as known" } else { "recorded" };
    say!(
        "\n{} conversions {what} per second; decided and computed after {:.1} s; {} MB on disk.",
        bold(&format!("{:.0}", figures.conversions_per_second)),
        outcome.delivery.deciding.as_secs_f64(),
        figures.database_bytes / 1_000_000
    );
    let database = common.location()?;
    // A server's URL holds a password, which is not repeated: it stands in the environment.
    let option = if database.is_server() { String::new() } else { format!(" --data {}", common.data.display()) };
    say!(
        "\nThe API is at http://{address}/v1, its documentation at http://{address}/docs. Three commands to try next:"
    );
    say!("  curl 'http://{address}/v1/reports/summary?group_by=partner'");
    say!("  alpes verify{option}");
    say!("  alpes events tail{option}");
    Ok(())
}

fn print_funnel(figures: &Figures<'_>, outcome: &Outcome) {
    let funnel = &figures.funnel;
    say!("{}", bold("From the purchase log to commissions"));
    let mut table = Table::new(&["what", "count", "meaning"]);
    for (what, count, meaning) in [
        ("delivered", funnel.delivered, "conversions, in shuffled order"),
        ("duplicates", funnel.duplicates, "delivered twice, recorded once"),
        ("recorded", funnel.recorded, "conversions"),
        ("attributed", funnel.attributed, "a partner is credited"),
        ("unattributed", funnel.unattributed, "nobody is"),
        ("touches", funnel.touches, "clicks, many of them after the purchases"),
        ("refunds", funnel.refunds, "half of the amount, many of them before the sale"),
        ("chargebacks", funnel.chargebacks, "after the payout"),
        ("parked now", funnel.parked, "facts that still wait"),
        ("resumed", funnel.resumed, "facts that waited, and went on"),
    ] {
        table.row([what.to_owned(), count.to_string(), meaning.to_owned()]);
    }
    table.print();
    say!("  {}", faint(&format!("{} facts answered as known already", outcome.delivery.known)));
}

fn print_partners(figures: &Figures<'_>) {
    say!("\n{}", bold("Partners (USD)"));
    let mut table = Table::new(&["number", "accrued", "reversed", "paid", "payable"]);
    for row in &figures.partners {
        let amounts = [row.accrued_minor, row.reversed_minor, row.paid_minor, row.payable_minor].map(amount);
        table.row([row.number.to_string()].into_iter().chain(amounts));
    }
    table.print();
}

fn print_payouts(outcome: &Outcome) {
    say!("\n{}", bold("Payout 1, and payout 2 as a dry run (USD)"));
    let mut table = Table::new(&["partner", "payout 1", "outcome", "payout 2"]);
    let (first, second) = (&outcome.payouts.first, &outcome.payouts.second);
    for (number, partner) in (1..).zip(&outcome.world.partners) {
        let item = first.items.iter().find(|item| item.partner_id == *partner);
        let next =
            second.items.iter().find(|item| item.partner_id == *partner).map(|item| amount(item.amount.amount_minor));
        let carried = second.carried.iter().find(|carried| carried.partner_id == *partner);
        table.row([
            number.to_string(),
            item.map_or_else(|| "-".to_owned(), |item| amount(item.amount.amount_minor)),
            item.map_or_else(|| "-".to_owned(), |item| item.state.to_string()),
            next.or_else(|| carried.map(|c| format!("{} carried", amount(c.amount.amount_minor))))
                .unwrap_or_else(|| "-".to_owned()),
        ]);
    }
    table.print();
}
