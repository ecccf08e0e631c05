//! `alpes topics`: makes the topics on the broker and shows how they stand.

use clap::{Args, Subcommand};
use log_pulsar::topics;

use crate::cli::Common;
use crate::output::{self, Table};
use crate::sinks::Broker;

/// What to do with the topics.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Make what is missing: tenant, namespace, topics, schemas, retention; running it again is safe
    Setup(Arguments),
    /// Show every topic with its schema and its backlogs
    Status(Arguments),
}

/// Which broker.
#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    broker: Broker,
}

/// Does it.
pub(crate) fn run(common: &Common, command: &Command) -> anyhow::Result<()> {
    let (Command::Setup(arguments) | Command::Status(arguments)) = command;
    let options = arguments.broker.options();
    let options =
        options.ok_or_else(|| anyhow::anyhow!("no broker is named: give --pulsar URL or set ALPES_PULSAR"))?;
    if let Command::Setup(_) = command {
        topics::setup(&options)?;
    }
    let topics = topics::status(&options)?;
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
