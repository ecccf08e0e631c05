//! `alpes replay <dead letter>`.

use std::sync::Arc;

use clap::Args;
use kernel::DeadLetterId;

use crate::cli::Common;
use crate::wiring::Settings;
use crate::worker::Worker;
use crate::{output, wiring};

/// What `replay` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The dead letter, as listed by GET /v1/dead-letters: dlq_…
    id: DeadLetterId,
}

/// Tries it, and those behind it, again.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let db = wiring::open(&common.location()?)?;
    let worker = Worker::new(Settings::default(), Arc::new(payments::gateways::sandbox::Sandbox::default()));
    let handled = worker.replay(&db, arguments.id)?;
    if common.json {
        return output::json(&serde_json::json!({ "handled": handled }));
    }
    output::say!("Handled {handled} events of the subject.");
    Ok(())
}
