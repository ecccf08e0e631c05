//! `cargo x test`: every proof of this repository, one step after the other.
//!
//! To add a step, add a line to [`STEPS`].

use crate::process::{Show, cargo, must_run, root, run as start, tool};
use crate::services::{self, Service};
use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

#[rustfmt::skip] // a table reads better as one
const STEPS: &[Step] = &[
    Step { name: "check",      budget_minutes: 5,  needs: Need::Nothing, run: check,      last_word: false },
    Step { name: "licences",   budget_minutes: 1,  needs: Need::Tool("cargo-deny"), run: licences,   last_word: false },
    Step { name: "build",      budget_minutes: 10, needs: Need::Nothing, run: build,      last_word: true },
    Step { name: "documents",  budget_minutes: 1,  needs: Need::Nothing, run: documents,  last_word: false },
    Step { name: "tests",      budget_minutes: 4,  needs: Need::Nothing, run: tests,      last_word: false },
    Step { name: "postgres",   budget_minutes: 6,  needs: Need::Service(Service::Postgres), run: postgres, last_word: false },
    Step { name: "mariadb",    budget_minutes: 6,  needs: Need::Service(Service::Mariadb), run: mariadb, last_word: false },
    Step { name: "changes",    budget_minutes: 4,  needs: Need::Service(Service::Mariadb), run: changes, last_word: false },
    Step { name: "pulsar",     budget_minutes: 7,  needs: Need::Service(Service::Pulsar), run: pulsar, last_word: false },
    Step { name: "simulation", budget_minutes: 3,  needs: Need::Nothing, run: simulation, last_word: false },
    Step { name: "planted",    budget_minutes: 4,  needs: Need::Nothing, run: planted,    last_word: false },
    Step { name: "chaos",      budget_minutes: 4,  needs: Need::Nothing, run: chaos,      last_word: false },
    Step { name: "scale",      budget_minutes: 8,  needs: Need::Service(Service::Postgres), run: scale, last_word: false },
    Step { name: "disk",       budget_minutes: 2,  needs: Need::Tool("strace"), run: disk,       last_word: false },
    Step { name: "overload",   budget_minutes: 1,  needs: Need::Nothing, run: overload,   last_word: false },
    Step { name: "gates",      budget_minutes: 2,  needs: Need::Tool("strace"), run: gates,      last_word: false },
    Step { name: "demo",       budget_minutes: 2,  needs: Need::Tool("python3"), run: crate::demo::recomputed, last_word: false },
    Step { name: "openapi",    budget_minutes: 5,  needs: Need::Tool("schemathesis"), run: crate::openapi::conforms, last_word: false },
    Step { name: "deploy",     budget_minutes: 5,  needs: Need::Tool("go"), run: crate::deploy::readable, last_word: false },
];

/// One proof.
struct Step {
    name: &'static str,
    /// What it may take in CI, on two cores.
    budget_minutes: u32,
    needs: Need,
    run: fn(&Path) -> Result<Tally>,
    /// When it fails, the steps after it cannot succeed and are not tried.
    last_word: bool,
}

/// What a step cannot run without.
enum Need {
    Nothing,
    /// A program.
    Tool(&'static str),
    /// Somebody else's server, which is started for it.
    Service(Service),
}

/// Tests that ran, by how they ended.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub(crate) struct Tally {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only these steps, by name (see `--list`)
    #[arg(long, value_name = "STEP", num_args = 1..)]
    only: Vec<String>,
    /// Print the steps with their budgets and stop
    #[arg(long)]
    list: bool,
}

/// How a step ended.
enum Ending {
    Right,
    Wrong(String),
    NotRun(String),
}

/// A line of the closing table.
struct Line {
    step: &'static Step,
    ending: Ending,
    tally: Tally,
    took: Duration,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(unknown) = arguments.only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        bail!("no step is called {unknown:?}; `cargo x test --list` prints them");
    }
    if arguments.list {
        STEPS.iter().for_each(|step| println!("{:12} {:2} minutes", step.name, step.budget_minutes));
        return Ok(());
    }
    let root = root()?;
    let wanted = STEPS.iter().filter(|step| arguments.only.is_empty() || arguments.only.iter().any(|n| n == step.name));
    let mut lines: Vec<Line> = Vec::new();
    for step in wanted {
        println!("\n━━ {} ━━", step.name);
        let blocked = lines.iter().find(|line| line.step.last_word && matches!(line.ending, Ending::Wrong(_)));
        let began = Instant::now();
        let (ending, tally) = match blocked {
            Some(line) => (Ending::NotRun(format!("{} failed", line.step.name)), Tally::default()),
            None => attempt(&root, step),
        };
        if let Ending::NotRun(reason) | Ending::Wrong(reason) = &ending {
            println!("{}: {reason}", word(&ending));
        }
        lines.push(Line { step, ending, tally, took: began.elapsed() });
    }
    services::end(&root)?;
    close(&lines, std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false"))
}

fn attempt(root: &Path, step: &Step) -> (Ending, Tally) {
    let missing = match step.needs {
        Need::Nothing => None,
        Need::Tool(name) => {
            tool(root, name).is_none().then(|| format!("{name} is not installed (.ci/run installs it)"))
        }
        Need::Service(service) => services::missing(root, service),
    };
    if let Some(reason) = missing {
        return (Ending::NotRun(reason), Tally::default());
    }
    match (step.run)(root) {
        Ok(tally) if tally.failed == 0 => (Ending::Right, tally),
        Ok(tally) => (Ending::Wrong(format!("{} failed", tally.failed)), tally),
        Err(fault) => (Ending::Wrong(format!("{fault:#}")), Tally { passed: 0, failed: 1 }),
    }
}

/// Prints the table and the last line, and says whether all of it is good enough.
fn close(lines: &[Line], ci: bool) -> Result<()> {
    println!("\n{:<12} {:<8} {:>8} {:>7} {:>7} {:>7}", "step", "", "minutes", "budget", "passed", "failed");
    for Line { step, ending, tally, took } in lines {
        let seconds = took.as_secs();
        let late = if seconds > u64::from(step.budget_minutes) * 60 { "  over its budget" } else { "" };
        println!(
            "{:<12} {:<8} {:>8} {:>7} {:>7} {:>7}{late}",
            step.name,
            word(ending),
            format!("{}:{:02}", seconds / 60, seconds % 60),
            format!("{}:00", step.budget_minutes),
            tally.passed,
            tally.failed
        );
    }
    for line in lines {
        if let Ending::NotRun(reason) = &line.ending {
            println!("NOT RUN: {}: {reason}", line.step.name);
        }
    }
    let passed: u32 = lines.iter().map(|line| line.tally.passed).sum();
    let failed: u32 = lines.iter().map(|line| line.tally.failed).sum();
    println!("\n{passed} passed, {failed} failed");
    let names = |wanted: fn(&Ending) -> bool| {
        let found: Vec<&str> = lines.iter().filter(|line| wanted(&line.ending)).map(|line| line.step.name).collect();
        found.join(", ")
    };
    let wrong = names(|ending| matches!(ending, Ending::Wrong(_)));
    let not_run = names(|ending| matches!(ending, Ending::NotRun(_)));
    ensure!(wrong.is_empty(), "wrong: {wrong}");
    ensure!(!ci || not_run.is_empty(), "not run, and CI is set: {not_run}");
    Ok(())
}

fn word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Right => "ok",
        Ending::Wrong(_) => "FAILED",
        Ending::NotRun(_) => "NOT RUN",
    }
}

fn check(_root: &Path) -> Result<Tally> {
    crate::check::run()?;
    Ok(Tally::default())
}

fn licences(root: &Path) -> Result<Tally> {
    let mut deny = Command::new(tool(root, "cargo-deny").expect("the step needs it, so it was looked for before"));
    deny.args(["--workspace", "check", "--hide-inclusion-graph", "licenses", "bans", "sources"]).current_dir(root);
    must_run("cargo-deny", "refuses a dependency", deny)?;
    Ok(Tally::default())
}

/// Compiles everything first, so that a test's time is its own.
fn build(root: &Path) -> Result<Tally> {
    let tests = cargo(root, ["test", "--profile", "ci", "--workspace", "--no-run", "--quiet"]);
    must_run("building the tests", "they do not compile", tests)?;
    crate::docs::alpes(root)?;
    Ok(Tally::default())
}

fn documents(root: &Path) -> Result<Tally> {
    again(root, &["docs", "--check"])
}

fn tests(root: &Path) -> Result<Tally> {
    cargo_tests(cargo(root, ["test", "--profile", "ci", "--workspace", "--no-fail-fast"]))
}

fn simulation(root: &Path) -> Result<Tally> {
    crate::sim::seeded(root, crate::sim::Seeds { count: 500, first: 0 })
}

/// What runs on every database: commands, views, reactions, flows, checks, and what only servers can get wrong.
fn on_server(root: &Path, service: Service, variable: &str) -> Result<Tally> {
    let variables = services::ensure(root, &[service])?;
    let url = variables.iter().find(|(name, _)| name == variable).map(|(_, url)| url.as_str());
    let packages = ["platform", "ledger", "partners", "campaigns", "conversions", "commissions", "payments", "reports"];
    let mut tests = cargo(root, ["test", "--profile", "ci", "--no-fail-fast"]);
    tests.args(packages.iter().flat_map(|name| ["--package", name]));
    tests.env("ALPES_TEST_DATABASE", url.context("the service has no URL")?);
    let authority = format!("{variable}_CA");
    let authority = variables.iter().find(|(name, _)| *name == authority).map(|(_, file)| file.as_str());
    tests.env("ALPES_TEST_DATABASE_CA", authority.context("the service has no certificate")?);
    cargo_tests(tests)
}

fn postgres(root: &Path) -> Result<Tally> {
    on_server(root, Service::Postgres, "ALPES_TEST_POSTGRES")
}

fn mariadb(root: &Path) -> Result<Tally> {
    on_server(root, Service::Mariadb, "ALPES_TEST_MARIADB")
}

/// Both databases' own logs of changes, beside Debezium.
fn changes(root: &Path) -> Result<Tally> {
    completely(root, &[Service::Postgres, Service::Mariadb], &[&["--package", "cdc", "--"]])
}

/// The adapter by itself, then whole processes that take commands in.
fn pulsar(root: &Path) -> Result<Tally> {
    let wanted = [&["--package", "log-pulsar", "--"][..], &["--package", "server", "--test", "it", "--", "commands::"]];
    completely(root, &[Service::Pulsar, Service::Postgres], &wanted)
}

/// Tests that say NOT RUN when they lack something: here none may.
fn completely(root: &Path, needed: &[Service], wanted: &[&[&str]]) -> Result<Tally> {
    let variables = services::ensure(root, needed)?;
    let mut sum = Tally::default();
    for arguments in wanted {
        let mut tests = cargo(root, ["test", "--profile", "ci", "--no-fail-fast"]);
        tests.args(*arguments).arg("--nocapture").envs(variables.clone());
        let outcome = start(tests, Show::Live)?;
        ensure!(!outcome.text.contains("NOT RUN"), "a test lacked something and did not run");
        let tally = tally(&outcome.text);
        ensure!(tally != Tally::default(), "no test was run");
        ensure!(outcome.success || tally.failed > 0, "cargo test failed outside of any test");
        sum = Tally { passed: sum.passed + tally.passed, failed: sum.failed + tally.failed };
    }
    Ok(sum)
}

/// Three planted bugs, as a proof that the simulation can fail; `cargo x sim --planted` runs them all.
fn planted(root: &Path) -> Result<Tally> {
    crate::sim::planted(root, crate::sim::Seeds { count: 40, first: 0 }, Some(3))
}

fn chaos(root: &Path) -> Result<Tally> {
    again(root, &["chaos", "--kills", "30"])
}

fn scale(root: &Path) -> Result<Tally> {
    let faults = again(root, &["chaos", "--scale"])?;
    let full = again(root, &["chaos", "--scale", "--disk"])?;
    Ok(Tally { passed: faults.passed + full.passed, failed: 0 })
}

fn disk(root: &Path) -> Result<Tally> {
    again(root, &["chaos", "--disk"])
}

fn overload(root: &Path) -> Result<Tally> {
    again(root, &["chaos", "--overload"])
}

fn gates(root: &Path) -> Result<Tally> {
    again(root, &["bench", "--gates"])
}

/// Another task of this task runner, as a step.
fn again(root: &Path, arguments: &[&str]) -> Result<Tally> {
    let mut task = Command::new(std::env::current_exe()?);
    task.args(arguments).current_dir(root);
    must_run(&format!("cargo x {}", arguments.join(" ")), "failed", task)?;
    Ok(Tally { passed: 1, failed: 0 })
}

/// Runs a `cargo test` and counts what it ran; nothing at all counts as an error.
pub(crate) fn cargo_tests(command: Command) -> Result<Tally> {
    let outcome = start(command, Show::Live)?;
    let tally = tally(&outcome.text);
    ensure!(tally != Tally::default(), "no test was run");
    ensure!(outcome.success || tally.failed > 0, "cargo test failed outside of any test");
    Ok(tally)
}

/// The sums of the lines `test result: ok. 3 passed; 0 failed; …`.
pub(crate) fn tally(text: &str) -> Tally {
    let mut tally = Tally::default();
    for line in text.lines().filter(|line| line.starts_with("test result: ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let count = |unit| {
            let at = words.iter().position(|word| *word == unit);
            at.and_then(|at| words[at - 1].parse::<u32>().ok()).unwrap_or(0)
        };
        tally.passed += count("passed;");
        tally.failed += count("failed;");
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_binaries_are_added_up() {
        let text = "running 3 tests\ntest result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
                    test a ... FAILED\ntest result: FAILED. 4 passed; 1 failed; 0 ignored; finished in 0.00s\n\
                    a test says: test result: ok. 9 passed; 9 failed;";
        assert_eq!(tally(text), Tally { passed: 7, failed: 1 });
        assert_eq!(tally("error: could not compile"), Tally::default());
    }

    fn line(ending: Ending) -> Line {
        Line { step: &STEPS[0], ending, tally: Tally::default(), took: Duration::ZERO }
    }

    #[test]
    fn a_step_that_is_not_run_fails_only_in_ci_and_a_wrong_one_everywhere() {
        let not_run = [line(Ending::Right), line(Ending::NotRun("no tool".into()))];
        assert!(close(&not_run, false).is_ok());
        assert!(close(&not_run, true).is_err());
        assert!(close(&[line(Ending::Right)], true).is_ok());
        assert!(close(&[line(Ending::Wrong("no".into()))], false).is_err());
    }

    #[test]
    fn an_absent_tool_is_named_and_a_broken_step_counts_as_a_failure() {
        fn broken(_: &Path) -> Result<Tally> {
            bail!("broken")
        }
        let step = |needs| Step { name: "planted", budget_minutes: 1, needs, run: broken, last_word: false };
        let (ending, tally) = attempt(Path::new("."), &step(Need::Tool("no-such-tool-anywhere")));
        assert!(matches!(ending, Ending::NotRun(reason) if reason.contains("no-such-tool-anywhere")));
        assert_eq!(tally, Tally::default());
        let (ending, tally) = attempt(Path::new("."), &step(Need::Nothing));
        assert!(matches!(ending, Ending::Wrong(reason) if reason == "broken"));
        assert_eq!(tally, Tally { passed: 0, failed: 1 });
    }
}
