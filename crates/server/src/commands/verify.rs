//! `alpes verify`: prints a table, or with `--json` the same as a document; exits 1 with the first differences.

use platform::Check;
use serde::Serialize;

use crate::cli::Common;
use crate::output::{self, Table};
use crate::{verify, wiring};

/// A check as told to programs.
#[derive(Serialize)]
pub(crate) struct Finding<'a> {
    name: &'a str,
    checked: i64,
    differences: &'a [String],
}

/// Runs every check; answers whether all is well.
pub(crate) fn run(common: &Common) -> anyhow::Result<bool> {
    let db = wiring::open_beside(&common.location()?)?;
    let checks = db.read(verify::checks)?;
    let well = checks.iter().all(|check| check.differences.is_empty());
    if common.json {
        output::json(&serde_json::json!({ "ok": well, "checks": findings(&checks) }))?;
    } else {
        print(&checks);
    }
    Ok(well)
}

/// The checks as told to programs.
pub(crate) fn findings(checks: &[Check]) -> Vec<Finding<'_>> {
    checks
        .iter()
        .map(|check| Finding { name: check.name, checked: check.checked, differences: &check.differences })
        .collect()
}

/// Prints the table, and the first differences under it.
pub(crate) fn print(checks: &[Check]) {
    let mut table = Table::new(&["check", "looked at", "verdict"]);
    for check in checks {
        let verdict = if check.differences.is_empty() { output::good("ok") } else { output::bad("DIFFERENT") };
        table.row([check.name.to_owned(), check.checked.to_string(), verdict]);
    }
    table.print();
    for check in checks {
        for difference in check.differences.iter().take(5) {
            output::say!("  {} {}: {difference}", output::bad("difference"), check.name);
        }
    }
}
