//! `alpes explain <commission>`: the same explanation as `GET /v1/commissions/{id}/explanation`.

use clap::Args;
use kernel::CommissionId;

use crate::cli::Common;
use crate::{output, wiring};

/// What `explain` takes.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The commission: com_…
    id: CommissionId,
}

/// Prints the explanation.
pub(crate) fn run(common: &Common, arguments: &Arguments) -> anyhow::Result<()> {
    let db = wiring::open_beside(&common.location()?)?;
    let explanation = db.read(|reader| commissions::explanation(reader, arguments.id))?;
    if common.json {
        return output::json(&explanation);
    }
    for line in serde_json::to_string_pretty(&explanation)?.lines() {
        print(line);
    }
    Ok(())
}

/// Prints a line of pretty JSON as people like to read it: without braces, quotes around names and commas.
fn print(line: &str) {
    let line = line.trim_end_matches(',').trim_end_matches(['{', '[']).trim_end();
    let text = line.trim_start();
    let margin = &line[..line.len() - text.len()];
    match text.trim_start_matches('"').split_once("\":") {
        Some((name, "")) => output::say!("{margin}{}", output::bold(name)),
        Some((name, value)) => output::say!("{margin}{}{value}", output::faint(&format!("{name}:"))),
        None if text.trim_matches(['}', ']', '{', '[']).is_empty() => {}
        None => output::say!("{margin}{text}"),
    }
}
