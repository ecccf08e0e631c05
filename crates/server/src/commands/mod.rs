//! The subcommands, one file each; the smallest are here.

pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod docs;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod import;
pub(crate) mod keys;
pub(crate) mod rebuild;
pub(crate) mod relay;
pub(crate) mod replay;
pub(crate) mod status;
pub(crate) mod topics;
pub(crate) mod verify;

use crate::cli::Common;
use crate::{output, wiring};

/// `alpes migrate`.
pub(crate) fn migrate(common: &Common) -> anyhow::Result<()> {
    wiring::open(&common.location()?)?;
    let count: usize = wiring::migrations().iter().map(|group| group.len()).sum();
    if common.json {
        return output::json(&serde_json::json!({ "migrations": count }));
    }
    output::say!("{} is up to date: {count} migrations.", common.location()?);
    Ok(())
}

/// `alpes crash-points`: one per line; none in a release build.
pub(crate) fn crash_points() -> anyhow::Result<()> {
    #[cfg(debug_assertions)]
    for name in wiring::CRASH_POINTS {
        output::say!("{name}:before_commit\n{name}:after_commit");
    }
    Ok(())
}
