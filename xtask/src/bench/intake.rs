//! How fast conversions are taken in: saturated, at a planned rate, in bulk, and with a transaction for each.

use super::{Context, Readings, all_accepted};
use crate::load::conversions::Conversions;
use crate::load::meter::Meter;
use crate::load::scene::Scene;
use crate::load::server::Start;
use crate::load::{closed, open as open_loop};
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// Connections that saturate the server with single POSTs.
pub(super) const CONNECTIONS: usize = 64;
/// Connections of the bulk loads: enough that one is always waiting.
const BULK_CONNECTIONS: usize = 4;
/// More than any run can send.
const ENDLESS: u64 = 1 << 39;
const PER_BULK: u64 = 1_000;
const OPEN_RATE: u64 = 5_000;

/// Single POSTs with reactions running and without.
pub(super) fn single(context: &Context) -> Result<Readings> {
    let (reacting, alone) = in_turn(
        context,
        || saturate(context, "single", &[], 1, CONNECTIONS),
        || saturate(context, "single-alone", &["--roles", "api"], 1, CONNECTIONS),
    )?;
    let ((reacting, behind), (alone, _)) = (reacting, alone);
    Ok(Readings {
        values: vec![("single", rate(&reacting)), ("single-alone", rate(&alone)), ("single-backlog", behind as f64)],
        raw: json!({"reacting": reacting.to_json(), "alone": alone.to_json(), "behind": behind}),
    })
}

/// Bulk calls without reactions and with them.
pub(super) fn bulk(context: &Context) -> Result<Readings> {
    let (alone, reacting) = in_turn(
        context,
        || saturate(context, "bulk", &["--roles", "api"], PER_BULK, BULK_CONNECTIONS),
        || saturate(context, "bulk-reacting", &[], PER_BULK, BULK_CONNECTIONS),
    )?;
    let ((alone, _), (reacting, _)) = (alone, reacting);
    let items = PER_BULK as f64;
    Ok(Readings {
        values: vec![("bulk", rate(&alone) * items), ("bulk-reacting", rate(&reacting) * items)],
        raw: json!({"alone": alone.to_json(), "reacting": reacting.to_json()}),
    })
}

/// Poisson arrivals, then arrivals at equal distances, with reactions running.
pub(super) fn open(context: &Context) -> Result<Readings> {
    open_at(context, OPEN_RATE)
}

/// The same at `rate` per second.
pub(super) fn open_at(context: &Context, rate: u64) -> Result<Readings> {
    let (_, running, scene) = context.scene("open", &Start::default())?;
    let plan = |arrivals, warm_up| open_loop::Plan {
        address: running.control.address,
        connections: 512,
        rate,
        arrivals,
        warm_up,
        time: context.seconds(30, 4),
    };
    let poisson = plan(open_loop::Arrivals::Poisson, context.warm_up());
    let poisson = open_loop::run(&poisson, Conversions::new(&scene, "poisson", 1, 0, ENDLESS))?.meter;
    let backlog = running.control.backlog()?.largest();
    let even = plan(open_loop::Arrivals::Even, context.seconds(1, 0));
    let even = open_loop::run(&even, Conversions::new(&scene, "even", 1, 0, ENDLESS))?.meter;
    all_accepted(&poisson)?;
    all_accepted(&even)?;
    let (memory, peak) = (running.memory_kb("VmRSS")?, running.memory_kb("VmHWM")?);
    running.stop()?;
    let quantile = |permille| milliseconds(poisson.latency.quantile(permille));
    Ok(Readings {
        values: vec![
            ("open-p50", quantile(500)),
            ("open-p95", quantile(950)),
            ("open-p99", quantile(990)),
            ("open-lag", milliseconds(poisson.lag.quantile(990))),
            ("open-even-p99", milliseconds(even.latency.quantile(990))),
            ("open-backlog", backlog as f64),
        ],
        raw: json!({
            "poisson": poisson.to_json(), "even": even.to_json(), "resident_kb": memory, "peak_kb": peak,
        }),
    })
}

/// The batched intake against one that commits each request by itself.
pub(super) fn one_transaction(context: &Context) -> Result<Readings> {
    let (batched, each) = in_turn(
        context,
        || saturate(context, "batched", &["--roles", "api"], 1, CONNECTIONS),
        || saturate(context, "each", &["--roles", "api", "--batch", "1"], 1, CONNECTIONS),
    )?;
    let ((batched, _), (each, _)) = (batched, each);
    Ok(Readings {
        values: vec![("one-transaction", rate(&batched) / rate(&each)), ("one-transaction-rate", rate(&each))],
        raw: json!({"batched": batched.to_json(), "each": each.to_json()}),
    })
}

/// The same against itself: what a ratio says when nothing differs.
pub(super) fn same(context: &Context) -> Result<Readings> {
    let run = |name| saturate(context, name, &["--roles", "api"], 1, CONNECTIONS);
    let ((first, _), (second, _)) = in_turn(context, || run("first"), || run("second"))?;
    Ok(Readings {
        values: vec![("same", rate(&first) / rate(&second))],
        raw: json!({"first": first.to_json(), "second": second.to_json()}),
    })
}

/// Records exactly `count` conversions by bulk calls, and returns their rate per second.
pub(super) fn record(scene: &Scene, source: &str, count: u64, hot: bool) -> Result<(f64, Value)> {
    let plan = closed::Plan {
        address: scene.control.address,
        connections: BULK_CONNECTIONS,
        warm_up: std::time::Duration::ZERO,
        time: std::time::Duration::from_secs(600),
    };
    let mut conversions = Conversions::new(scene, source, PER_BULK, 0, count);
    conversions.hot = hot;
    let run = closed::run(&plan, conversions)?;
    all_accepted(&run.meter)?;
    ensure!(run.traffic.accepted == count, "{} of {count} conversions were accepted", run.traffic.accepted);
    Ok((count as f64 / run.meter.elapsed.as_secs_f64(), run.meter.to_json()))
}

/// The load's figures, and how many events the slowest consumer is behind when it ends.
pub(super) fn saturate(
    context: &Context,
    name: &str,
    arguments: &[&str],
    per_request: u64,
    connections: usize,
) -> Result<(Meter, u64)> {
    let (_, running, scene) = context.scene(name, &Start::with(arguments))?;
    let plan = closed::Plan {
        address: running.control.address,
        connections,
        warm_up: context.warm_up(),
        time: context.seconds(20, 3),
    };
    let run = closed::run(&plan, Conversions::new(&scene, name, per_request, 0, ENDLESS))?;
    all_accepted(&run.meter)?;
    ensure!(run.traffic.refused == 0, "{} conversions were refused", run.traffic.refused);
    let behind = running.control.backlog()?.largest();
    running.stop()?;
    Ok((run.meter, behind))
}

/// A then B in even repetitions, B then A in odd ones.
pub(super) fn in_turn<A, B>(
    context: &Context,
    first: impl FnOnce() -> Result<A>,
    second: impl FnOnce() -> Result<B>,
) -> Result<(A, B)> {
    if context.repetition.is_multiple_of(2) {
        let first = first()?;
        Ok((first, second()?))
    } else {
        let second = second()?;
        Ok((first()?, second))
    }
}

pub(super) fn rate(meter: &Meter) -> f64 {
    meter.accepted() as f64 / meter.elapsed.as_secs_f64()
}

/// Microseconds as milliseconds.
pub(super) fn milliseconds(microseconds: u64) -> f64 {
    microseconds as f64 / 1_000.0
}
