//! What `deploy/` offers, read by the libraries that its users' tools are made of: the compose file by Docker Compose's
//! loader, the chart by Helm's linter and template engine, each object strictly by the types of the Kubernetes API.
//!
//! Needs Go, and neither an engine nor a cluster. It says that the files are right, not that the product runs with them.

use crate::process::{Show, must_run, run, tool};
use crate::test::Tally;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

pub(crate) fn readable(root: &Path) -> Result<Tally> {
    let go = tool(root, "go").context("the step needs it, so it was looked for before")?;
    let program = root.join("target/deploy-check/deploycheck");
    let go = |arguments: &[&str]| {
        let mut command = Command::new(&go);
        command.args(arguments).current_dir(root.join("tools/deploy-check"));
        // exactly what go.sum names, with the Go that is here
        command.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOTOOLCHAIN", "local");
        command
    };
    let mut build = go(&["build", "-o"]);
    build.arg(&program).arg(".");
    must_run("building the check", "it does not compile", build)?;
    ensure!(run(go(&["test", "./..."]), Show::Live)?.success, "the check does not find what was planted");
    let mut check = Command::new(&program);
    check.arg(root.join("deploy"));
    ensure!(run(check, Show::Live)?.success, "deploy/ is not right");
    Ok(Tally { passed: 2, failed: 0 })
}
