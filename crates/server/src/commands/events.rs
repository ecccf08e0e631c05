//! `alpes events tail`: the log, as it grows.

use std::time::Duration;

use clap::{Args, Subcommand};
use kernel::EventRecord;
use platform::event_log;

use crate::cli::Common;
use crate::{output, wiring};

/// What `events` can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Print the newest events, and with --follow every new one
    Tail(Tail),
}

/// What `events tail` takes.
#[derive(Args)]
pub(crate) struct Tail {
    /// How many of the newest to begin with
    #[arg(long, short = 'n', default_value_t = 20)]
    lines: usize,
    /// Begin after this position instead
    #[arg(long)]
    after: Option<i64>,
    /// Only events of this type, for example commissions.accrued.v1
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Go on as events come
    #[arg(long, short)]
    follow: bool,
}

/// Runs the subcommand.
pub(crate) fn run(common: &Common, command: &Command) -> anyhow::Result<()> {
    let Command::Tail(tail) = command;
    anyhow::ensure!(
        !(common.json && tail.follow),
        "--json prints one document, so it cannot follow; use GET /v1/events"
    );
    let db = wiring::open_beside(&common.location()?)?;
    let types: Vec<&str> = tail.event_type.iter().map(String::as_str).collect();
    let head = db.read(event_log::head)?;
    let mut after = tail.after.unwrap_or_else(|| (head - i64::try_from(tail.lines).unwrap_or(i64::MAX)).max(0));
    loop {
        let events = db.read(|reader| event_log::range(reader, after, i64::MAX, &types, 1_000))?;
        if common.json {
            return output::json(&events.iter().map(document).collect::<Vec<_>>());
        }
        events.iter().for_each(print);
        after = events.last().map_or(after, |event| event.position);
        if events.len() < 1_000 {
            if !tail.follow {
                return Ok(());
            }
            wait();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command waits for new events of another process")]
fn wait() {
    std::thread::sleep(Duration::from_millis(200));
}

fn document(event: &EventRecord) -> serde_json::Value {
    let data: serde_json::Value = serde_json::from_str(&event.payload).unwrap_or_default();
    serde_json::json!({
        "position": event.position, "id": event.id, "type": event.event_type, "subject": event.subject,
        "time": event.time, "actor": event.actor, "data": data,
    })
}

fn print(event: &EventRecord) {
    output::say!(
        "{:>8}  {}  {:<34} {}  {}",
        event.position,
        output::faint(&event.time.to_string()),
        output::bold(&event.event_type),
        event.subject,
        output::faint(&event.payload)
    );
}
