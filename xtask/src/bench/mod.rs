//! `cargo x bench`: the product's figures, measured on the built binary, with what they need to be believed: the
//! machine, the disk before and after, other load, every repetition. It knows the product only from outside.
#![expect(clippy::disallowed_methods, reason = "measures real time")]
#![expect(clippy::float_arithmetic, reason = "rates and ratios; no money here")]

mod bare;
mod broker;
mod environment;
mod figures;
mod footprint;
mod gates;
mod head;
mod intake;
mod reactions;
mod report;
mod scale;

use crate::load::scene::Scene;
use crate::load::server::{Alpes, Running, Start};
use crate::process::{cargo, must_run, root};
use anyhow::{Context as _, Result, bail, ensure};
use environment::{Environment, Watch};
use figures::Figure;
use report::{Repetition, Report};
use serde_json::Value;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Arguments of `cargo x bench`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// What is measured: one process over SQLite, or processes over server databases.
    #[arg(value_enum, default_value = "single")]
    suite: Choice,
    /// Short runs: for trying out, not for publishing; nothing is written to docs/.
    #[arg(long)]
    quick: bool,
    /// Only this measurement (repeatable); the others keep their last result.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Only the figures that do not depend on the machine, against their thresholds.
    #[arg(long, conflicts_with_all = ["quick", "only"])]
    gates: bool,
    /// Repetitions of each measurement (pairs, for a ratio); default 3, and 7 for ratios.
    #[arg(long)]
    repetitions: Option<u32>,
}

/// The sets of measurements.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    Single,
    Scale,
}

/// A set of measurements with its document.
struct Suite {
    measurements: &'static [Measurement],
    figures: &'static [Figure],
    /// The document's heading.
    title: &'static str,
    /// The file's name in `docs/`, without its ending.
    document: &'static str,
    rules: &'static str,
}

const SINGLE: Suite = Suite {
    measurements: MEASUREMENTS,
    figures: figures::FIGURES,
    title: "Benchmarks",
    document: "benchmarks",
    rules: report::RULES,
};

/// What a measurement works with.
struct Context {
    binary: PathBuf,
    /// Where databases are made: on the disk that is measured.
    data: PathBuf,
    quick: bool,
    /// Of this measurement, from 0: an even one runs A before B, an odd one B before A.
    repetition: u32,
    /// On which server databases are made, when it is not SQLite.
    server: Option<scale::Server>,
}

/// One repetition's outcome: values by the names of `FIGURES`, and raw data to keep.
struct Readings {
    values: Vec<(&'static str, f64)>,
    raw: Value,
}

/// A named measurement that yields one or more figures.
struct Measurement {
    name: &'static str,
    repetitions: u32,
    /// Whether its figures depend on time: they are void when the machine is not quiet.
    timed: bool,
    run: fn(&Context) -> Result<Readings>,
}

const MEASUREMENTS: &[Measurement] = &[
    Measurement { name: "single", repetitions: 3, timed: true, run: intake::single },
    Measurement { name: "open", repetitions: 3, timed: true, run: intake::open },
    Measurement { name: "bulk", repetitions: 3, timed: true, run: intake::bulk },
    Measurement { name: "reactions", repetitions: 3, timed: true, run: reactions::throughput },
    Measurement { name: "readable", repetitions: 3, timed: true, run: reactions::readable },
    Measurement { name: "bare", repetitions: 7, timed: true, run: bare::ratio },
    Measurement { name: "one-transaction", repetitions: 7, timed: true, run: intake::one_transaction },
    Measurement { name: "same", repetitions: 7, timed: true, run: intake::same },
    Measurement { name: "syncs", repetitions: 1, timed: false, run: gates::syncs },
    Measurement { name: "idle", repetitions: 5, timed: true, run: footprint::idle },
    Measurement { name: "demo", repetitions: 3, timed: true, run: footprint::demo },
];

/// Times that a repetition is tried again when the machine was not quiet.
const RETRIES: u32 = 2;

impl Context {
    /// `long` seconds, or `short` ones in a quick run.
    fn seconds(&self, long: u64, short: u64) -> Duration {
        Duration::from_secs(if self.quick { short } else { long })
    }

    fn warm_up(&self) -> Duration {
        self.seconds(10, 1)
    }

    /// A server with a scene on a fresh database.
    fn scene(&self, name: &str, start: &Start) -> Result<(Alpes, Running, Scene)> {
        let mut alpes = Alpes::fresh(&self.binary, &self.data.join(name))?;
        alpes.database = self.server.as_ref().map(|server| server.fresh_database(name)).transpose()?;
        let running = alpes.serve_with_key(start)?;
        let scene = Scene::create(running.control.clone(), 30)?;
        Ok((alpes, running, scene))
    }
}

/// Runs the measurements, prints the table and writes `docs/benchmarks.{md,json}`.
///
/// # Errors
/// When a measurement cannot be made; a figure that falls short is reported, not an error, but for the gates.
pub(crate) fn run(args: &Args) -> Result<()> {
    // Counts do not depend on the profile: the gates take what the tests have built anyway.
    if cfg!(debug_assertions) && !args.gates {
        return run_optimised();
    }
    let root = root()?;
    let bench = root.join("target/bench");
    std::fs::create_dir_all(&bench)?;
    let lock = std::fs::File::create(bench.join("lock"))?;
    ensure!(lock.try_lock().is_ok(), "another measurement runs: {} is locked", bench.join("lock").display());
    let mut context = Context {
        binary: root.join("target/release/alpes"),
        data: bench.join("data"),
        quick: args.quick,
        repetition: 0,
        server: None,
    };
    let suite = if args.suite == Choice::Scale { &scale::SUITE } else { &SINGLE };
    if args.gates {
        context.binary = crate::docs::alpes(&root)?;
        return gates::check(&context);
    }
    let build = cargo(&root, ["build", "--quiet", "--package", "server", "--release"]);
    must_run("building alpes", "it does not compile", build)?;
    for name in &args.only {
        let known = suite.measurements.iter().any(|measurement| measurement.name == name);
        ensure!(known, "no measurement {name}; there are {}", names(suite));
    }
    std::fs::create_dir_all(&context.data)?;
    let mut report = Report::load(&root, suite)?;
    report.environment = Environment::now(&root, &context.binary)?.to_json();
    report.environment["generator"] = check_generator(args.quick)?;
    let mut failed = Vec::new();
    for measurement in suite.measurements {
        if args.only.is_empty() || args.only.iter().any(|name| name == measurement.name) {
            let repetitions = args.repetitions.unwrap_or(if args.quick { 1 } else { measurement.repetitions });
            match measure(&mut context, measurement, repetitions) {
                Ok(done) => {
                    let raw = format!("{:#}\n", report::raw(&done));
                    std::fs::write(bench.join(format!("{}.json", measurement.name)), raw)?;
                    report.add(&done);
                }
                Err(error) => failed.push(format!("{}: {error:#}", measurement.name)),
            }
        }
    }
    std::fs::remove_dir_all(&context.data)?;
    crate::services::end(&root)?;
    print!("{}", report.table());
    if args.quick {
        println!("a quick run: docs/ is left as it was");
    } else {
        report.write(&root)?;
    }
    ensure!(failed.is_empty(), "not measured:\n{}", failed.join("\n"));
    Ok(())
}

/// What the generator adds by itself; a figure measured with an unsound one would be its own.
fn check_generator(quick: bool) -> Result<Value> {
    let check = crate::load::check(5_000, 64, Duration::from_secs(if quick { 1 } else { 5 }))?;
    eprintln!("generator against a stub: {}/s closed; {} open", check.closed.rate(), check.open.summary());
    ensure!(quick || check.is_sound(), "the generator is too slow on this machine now");
    Ok(serde_json::json!({
        "closed_per_second": check.closed.rate(),
        "open_p99_us": check.open.latency.quantile(990),
        "open_lag_p99_us": check.open.lag.quantile(990),
    }))
}

/// The generator must not be the bottleneck, so `cargo x bench` runs in an optimised build of xtask.
fn run_optimised() -> Result<()> {
    let root = root()?;
    let target = root.join("target/xtask");
    let mut build = cargo(&root, ["build", "--quiet", "--release", "--package", "xtask", "--target-dir"]);
    build.arg(&target);
    must_run("building the load generator", "it does not compile", build)?;
    let status = Command::new(target.join("release/xtask")).args(std::env::args_os().skip(1)).status()?;
    ensure!(status.success(), "the measurement failed");
    Ok(())
}

fn measure(context: &mut Context, measurement: &Measurement, repetitions: u32) -> Result<Vec<Repetition>> {
    let mut done = Vec::new();
    for repetition in 0..repetitions {
        context.repetition = repetition;
        let mut tries = 0;
        loop {
            let watch = Watch::start(&context.data, measurement.timed)?;
            let readings = (measurement.run)(context).with_context(|| format!("measurement {}", measurement.name))?;
            let conditions = watch.stop()?;
            eprintln!("{} {}: {:?} {}", measurement.name, repetition + 1, readings.values, conditions.summary());
            let quiet = conditions.void().is_none();
            done.push(Repetition { measurement: measurement.name, readings, conditions });
            tries += 1;
            if quiet || context.quick || tries > RETRIES {
                break;
            }
        }
    }
    if done.iter().all(|repetition| repetition.conditions.void().is_some()) {
        eprintln!("{}: every repetition is void; kept and marked as such", measurement.name);
    }
    Ok(done)
}

fn names(suite: &Suite) -> String {
    suite.measurements.iter().map(|measurement| measurement.name).collect::<Vec<_>>().join(", ")
}

/// Fails unless every request of a run was answered with 2xx.
fn all_accepted(meter: &crate::load::meter::Meter) -> Result<()> {
    if meter.failures() > 0 || meter.statuses.keys().any(|status| !(200..300).contains(status)) {
        bail!("not every request was accepted: {}, {:?}", meter.summary(), meter.statuses);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_belongs_to_a_measurement_and_names_are_unique() {
        for suite in [&SINGLE, &scale::SUITE] {
            for (index, figure) in suite.figures.iter().enumerate() {
                let named = |measurement: &Measurement| measurement.name == figure.measurement;
                assert!(suite.measurements.iter().any(named), "{}", figure.name);
                assert!(suite.figures[..index].iter().all(|other| other.name != figure.name), "{}", figure.name);
            }
        }
    }
}
