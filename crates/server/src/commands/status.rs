//! `alpes status`: how far the log, its consumers and its relays have come, and which process does what.

use web::Statistics;

use crate::cli::Common;
use crate::output::{self, Table};
use crate::wiring;

/// Prints it.
pub(crate) fn run(common: &Common) -> anyhow::Result<()> {
    let location = common.location()?;
    let db = wiring::open_beside(&location)?;
    let now = db.now();
    let statistics = db.read(|reader| Statistics::read(reader, now, &[]))?;
    if common.json {
        return output::json(&statistics);
    }
    let Statistics { head, sealed, parked, resumed, dead_letters, consumers, leases } = statistics;
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
    Ok(())
}
