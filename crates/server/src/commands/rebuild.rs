//! `alpes rebuild`: the reports again from the events, to equal content.

use std::sync::Arc;

use platform::{Lane, Runner, Step};

use crate::cli::Common;
use crate::{output, wiring};

/// Empties the projection, reads every event again and compares.
pub(crate) fn run(common: &Common) -> anyhow::Result<()> {
    let db = Arc::new(wiring::open(&common.location()?)?);
    let mut runner = Runner::new(reports::consumer());
    while runner.step(&db)? != Step::Idle {}
    let before = db.read(reports::content_digest)?;
    db.write("rebuild", Lane::Back, "system", reports::rebuild)?;
    let mut runner = Runner::new(reports::consumer());
    while runner.step(&db)? != Step::Idle {}
    let after = db.read(reports::content_digest)?;
    let equal = before == after;
    if common.json {
        output::json(&serde_json::json!({ "events": db.head(), "equal": equal }))?;
    } else {
        output::say!(
            "Built the reports again from {} events; their content is {}.",
            db.head(),
            if equal { "equal" } else { "DIFFERENT" }
        );
    }
    anyhow::ensure!(equal, "the content differs from before; it was wrong, or it is now: run alpes verify");
    Ok(())
}
