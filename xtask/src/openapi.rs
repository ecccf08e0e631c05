//! The API against its own description: schemathesis sends what the document allows and what it forbids, and every answer
//! must be one that the document names. No server error, no undocumented status.

use crate::load::scene::Scene;
use crate::load::server::{Alpes, Start};
use crate::process::{Show, run, tool};
use crate::test::Tally;
use anyhow::{Context, Result, ensure};
use std::path::Path;
use std::process::Command;

/// What is asked of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// Cases per operation and phase; the seed makes a failure repeatable.
const CASES: &str = "40";
const SEED: &str = "1998";

pub(crate) fn conforms(root: &Path) -> Result<Tally> {
    let schemathesis = tool(root, "schemathesis").context("the step needs it, so it was looked for before")?;
    let binary = crate::docs::alpes(root)?;
    let alpes = Alpes::fresh(&binary, &root.join("target/openapi"))?;
    let key = alpes.create_key()?;
    let running = alpes.serve(&Start::with(&["--payout-approval-limit-minor", "1000000000000"]), &key)?;
    Scene::create(running.control.clone(), 0)?;
    let address = format!("http://{}", running.control.address);
    let mut command = Command::new(schemathesis);
    command.arg("run").arg(format!("{address}/openapi.json")).args(["--checks", CHECKS, "--max-examples", CASES]);
    command.args(["--seed", SEED, "--workers", "2", "--phases", "examples,coverage,fuzzing", "--warnings", "off"]);
    command.args(["--suppress-health-check", "all", "--continue-on-failure", "--no-color"]);
    command.args(["--header", &format!("Authorization: Bearer {key}")]).current_dir(&alpes.data);
    let outcome = run(command, Show::Live)?;
    let errors = std::fs::read_to_string(&alpes.log).unwrap_or_default();
    ensure!(!errors.contains("panicked"), "a handler panicked; see {}", alpes.log.display());
    ensure!(outcome.success, "an answer is not as the document says; the log is {}", alpes.log.display());
    running.stop()?;
    alpes.verify()?;
    Ok(Tally { passed: 1, failed: 0 })
}
