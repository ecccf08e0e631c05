//! `alpes status`: how far the log, its consumers and its relays have come, and which process does what, what
//! the database and the broker keep for readers.

use clap::Args;
use web::{Outside, Statistics};

use crate::changes::Lags;
use crate::cli::Common;
use crate::output::{self, Table};
use crate::outside::{Alarms, Lookout};
use crate::sinks::Broker;
use crate::wiring;

/// What `status` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    alarms: Alarms,
}

/// Prints it.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let location = common.location()?;
    let db = wiring::open_beside(&location)?;
    let now = db.now();
    let outside =
        Lookout::new(location.clone(), arguments.broker.options(), arguments.alarms, Lags::default()).look(now);
    let statistics = db.read(|reader| Statistics::read(reader, now, &[], outside.clone()))?;
    if common.json {
        return output::json(&statistics);
    }
    let Statistics { head, sealed, parked, resumed, dead_letters, consumers, leases, outside } = statistics;
    output::say!("{location}");
    output::say!(
        "{head} events, sealed up to {sealed}; {parked} wait, {resumed} waited and went on; {dead_letters} dead letters"
    );
    output::say!("");
    let mut table = Table::new(&["consumer", "position", "lag", "dead letters", "held by"]);
    for consumer in consumers {
        let lease = leases.iter().find(|lease| lease.name == consumer.name && lease.is_held);
        let holder = lease.map_or_else(|| "-".to_owned(), |lease| lease.holder.clone());
        let (position, lag) = (consumer.position.to_string(), consumer.lag.to_string());
        table.row([consumer.name, position, lag, consumer.dead_letters.to_string(), holder]);
    }
    table.print();
    for lease in leases.iter().filter(|lease| lease.name == crate::worker::TIMERS) {
        let state = if lease.is_held { "held by" } else { "free, last held by" };
        output::say!("timers: {state} {}", lease.holder);
    }
    print_outside(&outside);
    Ok(())
}

fn print_outside(outside: &Outside) {
    if !outside.slots.is_empty() {
        output::say!("");
        let mut table = Table::new(&["slot", "status", "reader", "kept kB", "limit kB"]);
        let kilobytes = |bytes: Option<i64>| bytes.map_or_else(|| "-".to_owned(), |bytes| (bytes / 1_000).to_string());
        for slot in &outside.slots {
            let reader = if slot.is_active { "connected" } else { "away" };
            let (kept, limit) = (kilobytes(slot.behind_bytes), kilobytes(slot.limit_bytes));
            table.row([slot.name.as_str(), &slot.status, reader, &kept, &limit]);
        }
        table.print();
    }
    if !outside.backlogs.is_empty() {
        output::say!("");
        let mut table = Table::new(&["topic", "subscription", "backlog"]);
        for backlog in &outside.backlogs {
            table.row([&backlog.topic, &backlog.subscription, &backlog.messages.to_string()]);
        }
        table.print();
    }
    for (subject, alarm) in outside.alarms() {
        output::say!("{} {subject}: {alarm}", output::bad("alarm"));
    }
    for unseen in &outside.unseen {
        output::say!("{} {unseen}", output::bad("not seen"));
    }
}
