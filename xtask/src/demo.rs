//! The demo as a proof: run on a fresh directory, its figures are recomputed from the raw log by a program that shares no
//! code with the product; run again, it adds nothing.

use crate::process::{Show, run};
use crate::test::Tally;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

pub(crate) fn recomputed(root: &Path) -> Result<Tally> {
    let binary = crate::docs::alpes(root)?;
    let place = root.join("target/demo");
    if place.exists() {
        std::fs::remove_dir_all(&place)?;
    }
    std::fs::create_dir_all(&place)?;
    let first = play(&binary, &place)?;
    let figures = place.join("demo.json");
    std::fs::write(&figures, serde_json::to_vec_pretty(&first)?)?;
    let mut compare = Command::new("python3");
    compare.arg(root.join("tools/recompute_demo.py")).arg("--compare").arg(&figures);
    ensure!(run(compare, Show::Live)?.success, "the demo's figures are not those of the raw log");
    println!("recomputed from the raw log: every figure agrees");

    let again = play(&binary, &place)?;
    ensure!(again["events_added"] == 0, "a second run added {} events", again["events_added"]);
    for part in ["funnel", "partners", "payouts"] {
        ensure!(again[part] == first[part], "a second run tells other {part}");
    }
    println!("a second run on the same data: nothing added, the same figures");
    std::fs::remove_dir_all(&place)?;
    Ok(Tally { passed: 2, failed: 0 })
}

fn play(binary: &Path, place: &Path) -> Result<Value> {
    let mut demo = Command::new(binary);
    demo.args(["demo", "--exit", "--json", "--log", "warn", "--data"]).arg(place.join("data"));
    let output = demo.output().context("alpes cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "alpes demo ended with {}: {said}", output.status);
    serde_json::from_slice(&output.stdout).context("standard output is not one JSON document")
}
