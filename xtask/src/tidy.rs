//! `cargo x tidy`: the rules of the house that no compiler knows.
//!
//! To add one, write a function from [`Repository`] to [`Report`], plant violations in its tests, and add it to
//! [`CHECKS`]. A check that has never been seen to fail is worth nothing.

mod graph;
mod lints;
mod purity;
pub(crate) mod repository;
mod sizes;
mod source;
mod tables;
mod words;

use anyhow::{Result, ensure};
use repository::Repository;

const CHECKS: [fn(&Repository) -> Result<Report>; 7] =
    [graph::check, lints::check, purity::check, tables::check, sizes::check, words::code, words::places];

/// What one check looked at and found.
pub(crate) struct Report {
    /// The rule, in the words of somebody who breaks it.
    rule: &'static str,
    /// What was looked at, with its count: a check that looks at nothing shows it here.
    looked_at: String,
    /// Every place that breaks the rule: `path:line: what`.
    broken: Vec<String>,
    /// Worth knowing, and no violation.
    notes: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let repository = Repository::load(&crate::process::root()?)?;
    let mut broken = 0;
    for check in CHECKS {
        let report = check(&repository)?;
        let verdict = if report.broken.is_empty() { "ok  " } else { "FAIL" };
        println!("  {verdict}  {:62} {}", report.rule, report.looked_at);
        report.broken.iter().for_each(|place| println!("          {place}"));
        report.notes.iter().for_each(|note| println!("          note: {note}"));
        broken += report.broken.len();
    }
    ensure!(broken == 0, "tidy: {broken} places break a rule of the house");
    Ok(())
}
