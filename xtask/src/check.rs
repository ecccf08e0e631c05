//! `cargo x check`: formatting, tidy, lints.

use crate::process::{cargo, must_run, root};
use anyhow::{Result, ensure};

/// Runs all three whatever the others say, in the order of their cost.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let format = cargo(&root, ["fmt", "--all", "--check", "--", "--color", "never"]);
    let clippy =
        cargo(&root, ["clippy", "--workspace", "--all-targets", "--keep-going", "--quiet", "--", "-D", "warnings"]);
    let formatted = must_run("formatting", "differs: run `cargo fmt --all`", format);
    println!("tidy");
    let tidy = crate::tidy::run();
    let linted = must_run("clippy", "has complaints", clippy);
    let faults: Vec<String> =
        [formatted.err(), tidy.err(), linted.err()].into_iter().flatten().map(|fault| fault.to_string()).collect();
    ensure!(faults.is_empty(), "{}", faults.join("; "));
    Ok(())
}
