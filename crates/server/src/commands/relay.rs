//! `alpes relay`: takes the log to sinks, beside the processes that serve.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Args;
use platform::{Db, Relay, Step};

use crate::changes::Lags;
use crate::cli::Common;
use crate::duties::{self, Duties};
use crate::serve::Told;
use crate::sinks::Sinks;
use crate::{loops, output, wiring};

/// What `relay` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    sinks: Sinks,
    /// Stop once everything that is in the log by now has been taken
    #[arg(long)]
    once: bool,
    /// With --once: first go back to this position, so that everything from there on is taken once more; a file takes
    /// only what it does not have yet, so name a new one
    #[arg(long, requires = "once", value_name = "POSITION")]
    from: Option<i64>,
}

/// Relays until a signal, or once.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let location = common.location()?;
    let db = wiring::open_beside(&location)?;
    // Once is over when the table is: what the database tells of changes has no end.
    let relays =
        if arguments.once { arguments.sinks.polling()? } else { arguments.sinks.open(&location, &Lags::default())? };
    anyhow::ensure!(!relays.is_empty(), "there is nowhere to take events: name a sink, for example --relay-file FILE");
    let holder = duties::holder(&db);
    if arguments.once {
        return relays.into_iter().try_for_each(|relay| once(common, &db, relay, &holder, arguments.from));
    }
    // A signal ends the process at once: what was not yet told to be durable comes again, and leases end by themselves.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| loops::watch(&db, &Told::default(), &stop));
        for relay in relays {
            let duties = Duties::new(holder.clone(), vec![relay.name().to_owned()]);
            let (db, stop) = (&db, &stop);
            scope.spawn(move || loops::relay(db, relay, duties, stop));
        }
    });
    Ok(())
}

fn once(common: &Common, db: &Db, mut relay: Relay, holder: &str, mut from: Option<i64>) -> anyhow::Result<()> {
    let mut duties = Duties::new(holder.to_owned(), vec![relay.name().to_owned()]);
    let mut taken = 0;
    loop {
        if let Some(held) = duties.renew(db, |_| Ok(()))? {
            relay.fence = held.into_iter().next();
        }
        anyhow::ensure!(relay.fence.is_some(), "another process does {}: see alpes status", relay.name());
        if let Some(position) = from.take() {
            relay.go_back(db, position)?;
        }
        match relay.step(db, Duration::ZERO)? {
            Step::Idle => break,
            Step::Moved(events) => taken += events,
        }
    }
    duties.release(db);
    if common.json {
        return output::json(&serde_json::json!({ "relay": relay.name(), "events": taken }));
    }
    output::say!("{}: {taken} events.", relay.name());
    Ok(())
}
