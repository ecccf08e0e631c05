//! `alpes topics`: makes the topics on the broker, shows how they stand, and sees to their dead letters.

use clap::{Args, Subcommand};
use log_pulsar::{Fate, Letter, Letters, Options, Wanted, topics};

use crate::cli::Common;
use crate::inbound;
use crate::output::{self, Table};
use crate::sinks::Broker;

/// What to do with the topics.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make what is missing: tenant, namespace, topics, schemas, retention; running it again is safe
    Setup(Arguments),
    /// Show every topic with its schema and its backlogs
    Status(Arguments),
    /// Show the messages of a topic that could not be handled, and why, oldest first
    Letters(Which),
    /// Send such messages back to their topic, after the repair; what was handled meanwhile is not handled twice
    Replay(Which),
    /// Give such messages up
    Skip(Which),
}

/// Which broker.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: Broker,
}

/// Which dead letters.
#[derive(Args)]
pub(crate) struct Which {
    /// The topic that the messages were on: commands.conversion, or a full name
    #[arg(long)]
    topic: String,
    /// The subscription that could not handle them
    #[arg(long, default_value = inbound::NAME, value_name = "NAME")]
    subscription: String,
    /// Only those whose reason has these words
    #[arg(long, value_name = "WORDS")]
    reason: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    limit: usize,
    #[command(flatten)]
    broker: Broker,
}

/// Does it.
pub(crate) fn run(common: &Common, command: &Command) -> anyhow::Result<()> {
    match command {
        Command::Setup(Arguments { broker }) => {
            let options = named(broker)?;
            topics::setup(&options)?;
            status(common, &options)
        }
        Command::Status(Arguments { broker }) => status(common, &named(broker)?),
        Command::Letters(which) => letters(common, which, Wanted::Look),
        Command::Replay(which) => letters(common, which, Wanted::Replay),
        Command::Skip(which) => letters(common, which, Wanted::Skip),
    }
}

fn named(broker: &Broker) -> anyhow::Result<Options> {
    broker.options().ok_or_else(|| anyhow::anyhow!("no broker is named: give --pulsar URL or set ALPES_PULSAR"))
}

fn status(common: &Common, options: &Options) -> anyhow::Result<()> {
    let topics = topics::status(options)?;
    if common.json {
        return output::json(&topics);
    }
    let mut table = Table::new(&["topic", "partitions", "schema", "kB", "backlogs"]);
    for topic in topics {
        let backlogs: Vec<String> =
            topic.backlogs.iter().map(|(subscription, count)| format!("{subscription} {count}")).collect();
        table.row([
            topic.topic,
            if topic.exists { topic.partitions.to_string() } else { "missing".to_owned() },
            topic.schema_version.map_or_else(|| "none".to_owned(), |version| version.to_string()),
            (topic.stored_bytes / 1_000).to_string(),
            backlogs.join(", "),
        ]);
    }
    table.print();
    Ok(())
}

fn letters(common: &Common, which: &Which, wanted: Wanted) -> anyhow::Result<()> {
    let options = named(&which.broker)?;
    let Which { topic, subscription, reason, limit, .. } = which;
    let letters = Letters {
        topic: if topic.contains("://") { topic.clone() } else { options.topic(topic) },
        subscription: subscription.clone(),
        wanted,
        reason: reason.clone(),
        limit: *limit,
    };
    let letters = letters.run(&options)?;
    if common.json {
        return output::json(&letters);
    }
    let count = |fate: Fate| letters.iter().filter(|letter| letter.fate == fate).count();
    let (sent, skipped, incomplete) = (count(Fate::Sent), count(Fate::Skipped), count(Fate::Incomplete));
    print(&letters);
    match wanted {
        Wanted::Look => output::say!("{} letters.", letters.len()),
        Wanted::Replay if incomplete > 0 => output::say!(
            "{sent} of {} are on their topic again; {incomplete} were too large to be kept: their sender must send them again.",
            letters.len()
        ),
        Wanted::Replay => output::say!("{sent} of {} are on their topic again.", letters.len()),
        Wanted::Skip => output::say!("{skipped} are given up."),
    }
    Ok(())
}

fn print(letters: &[Letter]) {
    let mut table = Table::new(&["since", "key", "bytes", "attempts", "message", "reason"]);
    for letter in letters {
        table.row([
            letter.since.to_string(),
            letter.key.clone().unwrap_or_else(|| "-".to_owned()),
            letter.payload_bytes.to_string(),
            letter.attempts.clone(),
            letter.message_id.clone(),
            letter.reason.clone(),
        ]);
    }
    table.print();
}
