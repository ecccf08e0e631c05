//! `alpes migrate copy`: the whole database into another one, for moving from one machine to a server.

use platform::{Db, Location, copy, lease};

use crate::cli::Common;
use crate::{output, verify, wiring};

/// What else `migrate` does.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Copy everything into an empty database, for example a server's, and verify both
    Copy {
        /// The database to copy into: sqlite:DIRECTORY, postgres://… or mysql://…
        #[arg(long, env = "ALPES_COPY_TO", hide_env_values = true, value_name = "URL")]
        to: String,
    },
}

/// Copies, and verifies both sides. Answers whether no difference was found.
pub(crate) fn run(common: &Common, command: &Command) -> anyhow::Result<bool> {
    let Command::Copy { to } = command;
    let (from, to) = (common.location()?, Location::parse(to, &common.data)?);
    anyhow::ensure!(from.to_string() != to.to_string(), "a database cannot be copied into itself");
    let source = wiring::open(&from)?;
    let now = source.now();
    let leases = source.read(lease::list)?;
    let busy: Vec<&str> =
        leases.iter().filter(|lease| lease.expires_at > now).map(|lease| lease.holder.as_str()).collect();
    anyhow::ensure!(busy.is_empty(), "stop the processes that work on {from} first: {}", busy.join(", "));
    let target = wiring::open(&to)?;
    let copied = copy::copy(&source, &target, &wiring::migrations(), |table| {
        if !common.json {
            output::say!("{:>12} rows of {}", table.rows, table.table);
        }
    })?;
    let sound = is_sound(common, &source, &from)? & is_sound(common, &target, &to)?;
    if common.json {
        let rows: i64 = copied.iter().map(|table| table.rows).sum();
        output::json(&serde_json::json!({ "tables": copied.len(), "rows": rows, "sound": sound }))?;
    } else if sound {
        output::say!("{to} has everything of {from}; both verify. Start alpes with the new --database from now on.");
    }
    Ok(sound)
}

fn is_sound(common: &Common, db: &Db, location: &Location) -> anyhow::Result<bool> {
    let checks = db.read(verify::checks)?;
    let differences: Vec<&String> = checks.iter().flat_map(|check| &check.differences).collect();
    if !common.json {
        output::say!("{location}: {} checks, {} differences", checks.len(), differences.len());
        differences.iter().take(10).for_each(|difference| output::say!("  {difference}"));
    }
    Ok(differences.is_empty())
}
