//! Where events are taken, as told on the command line: a file, Apache Pulsar.

use std::path::PathBuf;

use clap::Args;
use kernel::{EventRecord, Result};
use log_pulsar::{Encoding, Options, PulsarSink};
use platform::{JsonLines, Location, Polling, Relay, Sink, Source};

use crate::changes::{Changes, Lags};
use crate::inbound;

/// The sinks of a process.
#[derive(Args, Clone)]
pub(crate) struct Sinks {
    /// Append every event to this file, one CloudEvent in JSON per line
    #[arg(long, env = "ALPES_RELAY_FILE", value_name = "FILE")]
    relay_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) broker: Broker,
    /// How the relay learns of events: by reading the table, or by what the database tells of its changes (logical
    /// replication, binlog)
    #[arg(long, value_enum, default_value = "polling", env = "ALPES_RELAY_SOURCE", value_name = "SOURCE")]
    relay_source: SourceKind,
    /// Read every event and take it nowhere (for measuring)
    #[arg(long, hide = true)]
    relay_null: bool,
}

/// The broker, and how topics are made there.
#[derive(Args, Clone)]
pub(crate) struct Broker {
    /// Publish every event on this Apache Pulsar, for example pulsar://127.0.0.1:6650
    #[arg(long, env = "ALPES_PULSAR", value_name = "URL")]
    pulsar: Option<String>,
    /// Its administration, for topics and schemas; port 8080 of the same host when absent
    #[arg(long, env = "ALPES_PULSAR_ADMIN", value_name = "URL")]
    pulsar_admin: Option<String>,
    /// The token that the broker knows this installation by
    #[arg(long, env = "ALPES_PULSAR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pulsar_token: Option<String>,
    /// The tenant of the topics
    #[arg(long, default_value = "public", env = "ALPES_PULSAR_TENANT", value_name = "NAME")]
    pulsar_tenant: String,
    /// The namespace of the topics
    #[arg(long, default_value = "alpes", env = "ALPES_PULSAR_NAMESPACE", value_name = "NAME")]
    pulsar_namespace: String,
    /// What messages call this installation: their attribute `source`, and the mark by which it knows its own again
    #[arg(long, default_value = "alpes", env = "ALPES_PULSAR_SOURCE", value_name = "NAME")]
    pulsar_source: String,
    /// Topics whose payloads are Avro instead of JSON, for example commissions.commission; for ever
    #[arg(long, env = "ALPES_PULSAR_AVRO", value_delimiter = ',', value_name = "TOPICS")]
    pulsar_avro: Vec<String>,
    /// Partitions of topics that `topics setup` makes; 0 for plain topics
    #[arg(long, default_value_t = 0, env = "ALPES_PULSAR_PARTITIONS", value_name = "N")]
    pulsar_partitions: u32,
    /// How long the broker keeps messages that everybody has acknowledged; -1 for ever
    #[arg(
        long,
        default_value_t = 10_080,
        env = "ALPES_PULSAR_RETENTION_MINUTES",
        value_name = "MINUTES",
        allow_negative_numbers = true
    )]
    pulsar_retention_minutes: i64,
}

impl Broker {
    /// The broker's options, if there is a broker.
    pub(crate) fn options(&self) -> Option<Options> {
        let service = self.pulsar.as_ref()?;
        let host = service.split_once("://").map_or(service.as_str(), |(_, rest)| rest);
        let host = host.split(',').next().unwrap_or(host).rsplit_once(':').map_or(host, |(host, _)| host);
        let admin = self.pulsar_admin.clone().unwrap_or_else(|| format!("http://{host}:8080"));
        let mut options = Options::new(service.clone(), admin);
        options.tenant.clone_from(&self.pulsar_tenant);
        options.namespace.clone_from(&self.pulsar_namespace);
        options.token.clone_from(&self.pulsar_token);
        options.source.clone_from(&self.pulsar_source);
        options.commands = inbound::schemas();
        options.encodings = self.pulsar_avro.iter().map(|topic| (topic.clone(), Encoding::Avro)).collect();
        options.partitions = self.pulsar_partitions;
        options.retention_minutes = self.pulsar_retention_minutes;
        Some(options)
    }
}

/// How a relay learns of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum SourceKind {
    /// Read the table
    Polling,
    /// Change data capture
    Changes,
}

impl Sinks {
    /// The broker's options, if events are taken to one.
    pub(crate) fn broker(&self) -> Option<Options> {
        self.broker.options()
    }

    /// A relay to each of them, by the source that was asked for.
    /// `lags` learns how far streams are behind.
    pub(crate) fn open(&self, location: &Location, lags: &Lags) -> Result<Vec<Relay>> {
        self.relays(|sink| match self.relay_source {
            SourceKind::Polling => Ok(Box::new(Polling)),
            SourceKind::Changes => Ok(Box::new(Changes::open(location, sink, lags.clone())?)),
        })
    }

    /// A relay to each of them that reads the table.
    pub(crate) fn polling(&self) -> Result<Vec<Relay>> {
        self.relays(|_| Ok(Box::new(Polling)))
    }

    fn relays(&self, source: impl Fn(&str) -> Result<Box<dyn Source>>) -> Result<Vec<Relay>> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(path) = &self.relay_file {
            sinks.push(Box::new(JsonLines::open(path)?));
        }
        if let Some(options) = self.broker.options() {
            sinks.push(Box::new(PulsarSink::new(options)?));
        }
        if self.relay_null {
            sinks.push(Box::new(Null));
        }
        sinks.into_iter().map(|sink| Ok(Relay::new(source(sink.name())?, sink))).collect()
    }
}

/// Takes events nowhere.
struct Null;

impl Sink for Null {
    fn name(&self) -> &str {
        "null"
    }

    fn deliver(&mut self, _: &[EventRecord]) -> Result<()> {
        Ok(())
    }
}
