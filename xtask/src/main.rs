//! `cargo x`: every check of this repository, under one roof.
//!
//! Knows the shape of the house (which crate may name which) and how to start the product's own tests.
//! Must not know the product's code: it depends on none of its crates, so that a broken product can still be checked.
#![expect(clippy::disallowed_methods, reason = "a task runner measures real time and starts threads; no product code")]

mod bench;
mod chaos;
mod check;
mod demo;
mod deploy;
mod docs;
mod load;
mod openapi;
mod process;
mod services;
mod sim;
mod test;
mod tidy;

use clap::{Parser, Subcommand};

/// The task runner. Start with `cargo x check` while you work and `cargo x test` before you push.
#[derive(Parser)]
#[command(name = "cargo x", bin_name = "cargo x", max_term_width = 110)]
#[command(
    after_help = "Exit code: 0 when everything asked for was done and is right, 1 otherwise, 2 for a wrong call."
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// What a change must pass before anybody reads it: formatting, clippy without warnings, tidy
    Check,
    /// The rules of the house that no compiler knows: who may name whom, pure models, own tables, sizes, words
    ///
    /// Prints a line per check with what it looked at, and under it every place that breaks the rule.
    Tidy,
    /// Regenerates docs/events.md, docs/problems.md, docs/config.md and docs/openapi.json from the code
    Docs(docs::Arguments),
    /// Everything that CI runs, step by step, with times and the counts of tests
    ///
    /// A step whose tool or privilege is absent is printed as NOT RUN. That is a failure when the environment
    /// variable CI is set, so that a green CI never means "not tried".
    Test(test::Arguments),
    /// The seeded simulation: the product's own code in a hostile world, compared with a reference model
    ///
    /// A failure prints its seed. Replay it alone with `cargo x sim --seeds 1 --first SEED`.
    Sim(sim::Arguments),
    /// The product's figures, measured: prints the table and writes docs/benchmarks.md and docs/benchmarks.json
    Bench(bench::Args),
    /// Kills, failing disks, overload and several processes that fail, compared with a client's own synced journal
    Chaos(chaos::Args),
    /// Several processes over one PostgreSQL under load with a fault every minute: availability, recovery, memory
    Soak(chaos::scale::soak::Args),
    /// PostgreSQL, MariaDB and Pulsar for tests, as throw-away instances of this work tree
    Services(services::Arguments),
    /// The load generator against a stub: what it adds to every measurement
    Load(load::Args),
}

fn main() -> std::process::ExitCode {
    let result = match Arguments::parse().task {
        Task::Check => check::run(),
        Task::Tidy => tidy::run(),
        Task::Docs(arguments) => docs::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Chaos(arguments) => chaos::run(&arguments),
        Task::Soak(arguments) => chaos::scale::soak::run(&arguments),
        Task::Services(arguments) => services::run(&arguments),
        Task::Load(arguments) => load::run(&arguments),
    };
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("\nfailed: {fault:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
