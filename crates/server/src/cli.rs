//! The command line. Exit codes: 0 done; 1 refused, failed, or `verify` found a difference; 2 a wrong call.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use platform::Location;

use crate::{commands, demo, output, serve, telemetry};

/// Partner marketing that can be trusted: takes in conversions, computes each commission exactly once, pays it, and can
/// explain every cent.
#[derive(Parser)]
#[command(name = "alpes", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done · 1 refused, failed, or a difference was found · 2 a wrong call.\n\
    Start with `alpes demo`, or with `alpes keys create --name me --scopes '*'` and `alpes serve`.")]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Args, Clone)]
pub(crate) struct Common {
    /// The directory of the database (`alpes.db`); it is created when it is missing
    #[arg(long, global = true, default_value = "./alpes-data", env = "ALPES_DATA", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The database: `sqlite:` is the file in the data directory; `postgres://…` and `mysql://…` are servers, which
    /// several processes can share, encrypted with `?sslmode=verify-full&sslrootcert=FILE`
    #[arg(
        long,
        global = true,
        default_value = "sqlite:",
        env = "ALPES_DATABASE",
        hide_env_values = true,
        value_name = "URL"
    )]
    database: String,
    /// Standard output holds one JSON document and nothing else
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// What is logged to standard error: error, warn, info, debug, or by module
    #[arg(long, global = true, default_value = "info", env = "ALPES_LOG", value_name = "LEVEL")]
    pub(crate) log: String,
}

impl Common {
    /// Where the database is.
    pub(crate) fn location(&self) -> kernel::Result<Location> {
        Location::parse(&self.database, &self.data)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API, react to facts, end holds, pay: everything, in one process
    Serve(serve::Arguments),
    /// Run the main job on a real purchase log of 69,659 orders, print what happened, then serve
    Demo(demo::Arguments),
    /// Record conversions from a CSV file; running it again is safe
    Import(commands::import::Arguments),
    /// Read the events that say everything that ever happened
    #[command(subcommand)]
    Events(commands::events::Command),
    /// Show how a commission came about: inputs, terms, every step and rounding, entries
    Explain(commands::explain::Arguments),
    /// Check everything on the live database: log, seal, ledger, every decision, every commission
    Verify,
    /// Show how far everything has come, and which process does what
    Status(commands::status::Arguments),
    /// Take the events of the log to sinks
    Relay(commands::relay::Arguments),
    /// Make and show the topics on Apache Pulsar
    #[command(subcommand)]
    Topics(commands::topics::Command),
    /// Build the reports again from the events
    Rebuild,
    /// Try a dead letter, and those behind it, again
    Replay(commands::replay::Arguments),
    /// Create, list and revoke API keys
    #[command(subcommand)]
    Keys(commands::keys::Command),
    /// Bring the database's tables up to date and exit
    Migrate {
        #[command(subcommand)]
        command: Option<commands::copy::Command>,
    },
    /// Show every setting, its value and where it comes from
    Config,
    /// Write the generated documents
    #[command(hide = true)]
    Docs(commands::docs::Arguments),
    /// List the points at which a test build can be made to crash
    #[command(hide = true)]
    CrashPoints,
}

/// Where the API listens.
#[derive(Args, Clone, Copy)]
pub(crate) struct Listen {
    /// The address to listen on
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), env = "ALPES_HOST")]
    pub(crate) host: IpAddr,
    /// The port to listen on
    #[arg(long, default_value_t = 8080, env = "ALPES_PORT")]
    pub(crate) port: u16,
}

impl Listen {
    /// The socket address.
    pub(crate) const fn address(self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }
}

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    telemetry::start(&common.log);
    let outcome = match command {
        Command::Serve(arguments) => serve::run(&common, &arguments).map(|()| true),
        Command::Demo(arguments) => demo::run(&common, &arguments),
        Command::Import(arguments) => commands::import::run(&common, &arguments),
        Command::Events(command) => commands::events::run(&common, &command).map(|()| true),
        Command::Explain(arguments) => commands::explain::run(&common, &arguments).map(|()| true),
        Command::Verify => commands::verify::run(&common),
        Command::Status(arguments) => commands::status::run(&common, &arguments).map(|()| true),
        Command::Relay(arguments) => commands::relay::run(&common, &arguments).map(|()| true),
        Command::Topics(command) => commands::topics::run(&common, &command).map(|()| true),
        Command::Rebuild => commands::rebuild::run(&common).map(|()| true),
        Command::Replay(arguments) => commands::replay::run(&common, &arguments).map(|()| true),
        Command::Keys(command) => commands::keys::run(&common, command).map(|()| true),
        Command::Migrate { command: None } => commands::migrate(&common).map(|()| true),
        Command::Migrate { command: Some(command) } => commands::copy::run(&common, &command),
        Command::Config => commands::config::run(&common).map(|()| true),
        Command::Docs(arguments) => commands::docs::run(&arguments).map(|()| true),
        Command::CrashPoints => commands::crash_points().map(|()| true),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            if common.json {
                let _ = output::json(&serde_json::json!({ "error": format!("{error:#}") }));
            }
            eprintln!("alpes: {error:#}");
            ExitCode::FAILURE
        }
    }
}
