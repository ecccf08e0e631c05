//! `cargo x check`: formatting, lints, tidy.

use crate::process::{cargo, must_run, root};
use anyhow::Result;

/// Runs the three in the order of their cost, so that a stray space is heard of in a second.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    println!("formatting");
    must_run("the formatting differs: run `cargo fmt --all`", cargo(&root, ["fmt", "--all", "--check"]))?;
    println!("clippy");
    let clippy = cargo(&root, ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"]);
    must_run("clippy has complaints", clippy)?;
    println!("tidy");
    crate::tidy::run()
}
