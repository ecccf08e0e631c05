//! Where events are taken, as told on the command line.

use std::path::PathBuf;

use clap::Args;
use kernel::{EventRecord, Result};
use platform::{JsonLines, Relay, Sink};

/// The sinks of a process.
#[derive(Args, Clone)]
pub(crate) struct Sinks {
    /// Append every event to this file, one CloudEvent in JSON per line
    #[arg(long, env = "ALPES_RELAY_FILE", value_name = "FILE")]
    relay_file: Option<PathBuf>,
    /// Read every event and take it nowhere (for measuring)
    #[arg(long, hide = true)]
    relay_null: bool,
}

impl Sinks {
    /// A relay to each of them.
    pub(crate) fn open(&self) -> Result<Vec<Relay>> {
        let mut relays = Vec::new();
        if let Some(path) = &self.relay_file {
            relays.push(Relay::new(Box::new(JsonLines::open(path)?)));
        }
        if self.relay_null {
            relays.push(Relay::new(Box::new(Null)));
        }
        Ok(relays)
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
