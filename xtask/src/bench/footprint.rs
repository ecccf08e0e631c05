//! What it costs to have it: memory when idle, time to start, disk, the demo.

use super::{Context, Readings};
use crate::load::server::{Alpes, Start};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::time::{Duration, Instant};

/// Memory and start of a server that has nothing to do.
pub(super) fn idle(context: &Context) -> Result<Readings> {
    let alpes = Alpes::fresh(&context.binary, &context.data.join("idle"))?;
    let fresh = alpes.serve(&Start::default(), "")?;
    let fresh_ms = fresh.ready_after.as_secs_f64() * 1_000.0;
    fresh.stop()?;
    let running = alpes.serve(&Start::default(), "")?;
    std::thread::sleep(Duration::from_secs(5));
    let memory = running.memory_kb("VmRSS")?;
    let raw = json!({
        "resident_kb": memory, "anonymous_kb": running.memory_kb("RssAnon")?, "peak_kb": running.memory_kb("VmHWM")?,
    });
    let ready_ms = running.ready_after.as_secs_f64() * 1_000.0;
    running.stop()?;
    Ok(Readings {
        values: vec![("idle-memory", memory as f64 / 1_000.0), ("start", ready_ms), ("start-fresh", fresh_ms)],
        raw,
    })
}

/// The demo's time, and the size of its database per recorded conversion: after the approvals, and after the payout and
/// the clawbacks too.
pub(super) fn demo(context: &Context) -> Result<Readings> {
    let alpes = Alpes::fresh(&context.binary, &context.data.join("demo"))?;
    let start = Instant::now();
    let (status, result) = alpes.command(&["demo", "--exit"])?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "the demo ended with {status}");
    let recorded = result["funnel"]["recorded"].as_u64().context("the demo printed no funnel.recorded")?;
    let approved = result["approved_bytes"].as_u64().context("the demo printed no approved_bytes")?;
    let bytes = alpes.size()?;
    let kilobytes_each = |bytes: u64| bytes as f64 / 1_000.0 / recorded as f64;
    Ok(Readings {
        values: vec![("demo", seconds), ("disk", kilobytes_each(approved)), ("disk-paid", kilobytes_each(bytes))],
        raw: json!({"bytes": bytes, "approved_bytes": approved, "recorded": recorded, "seconds": seconds, "funnel": result["funnel"]}),
    })
}
