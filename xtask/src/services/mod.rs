//! `cargo x services`: the databases and the broker that tests and measurements want, as throw-away instances of this
//! work tree. They listen on loopback at free ports, sync like in production, and their data goes when they stop.
//!
//! Knows how to start, find again and end each of them. Must not know what is tested with them.
//!
//! To add one, write a file with `missing`, `prepare` and `answers`, and add it to [`Service`].

mod certificates;
mod daemon;
mod environment;
mod mariadb;
mod place;
mod postgres;
mod pulsar;

use crate::process::{root, tool};
use anyhow::{Context as _, Result, bail};
use daemon::Record;
use place::Place;
pub(crate) use place::free_ports;
pub(crate) use postgres::says as postgres_says;
pub(crate) use pulsar::client as pulsar_client;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Somebody else's server that Alpes works with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Service {
    Postgres,
    Mariadb,
    Pulsar,
}

#[derive(clap::Args)]
#[command(after_help = "The data is thrown away: by `down`, and by an `up` after a crash. ALPES_SERVICES_DIR puts it \
                        somewhere else than target/services.")]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Starts services, waits until each answers, and prints the environment variables that lead to them
    ///
    /// One that runs already is kept with its data. The variables are also written to target/services/environment.
    Up {
        /// Which ones [default: all]
        services: Vec<Service>,
    },
    /// Stops services and removes their data
    Down {
        /// Which ones [default: all]
        services: Vec<Service>,
    },
    /// Makes a fault: kills a service, starts it again over its data, makes it stand still or go on
    #[command(hide = true)]
    Fault {
        /// Which one
        service: Service,
        /// What to do with it
        fault: Fault,
    },
    /// Says of each service whether it runs, where, which version, and with how much memory
    Status {
        /// Print one JSON document
        #[arg(long)]
        json: bool,
    },
}

/// What tests do to a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Fault {
    /// Kill it and all that it started
    Stop,
    /// Start it again over its data, and wait until it answers
    Start,
    /// Make it stand still
    Pause,
    /// Let it go on
    Resume,
}

/// Makes a fault of a service that runs, or ends one.
pub(crate) fn make(root: &Path, service: Service, fault: Fault) -> Result<()> {
    let base = base(root);
    let record =
        Record::read(&base, service.name()).with_context(|| format!("{} was never started", service.name()))?;
    match fault {
        Fault::Stop => record.kill(),
        Fault::Start if record.is_alive() => Ok(()),
        Fault::Start => start_again(&base, service, &record),
        Fault::Pause => record.signal_all("STOP"),
        Fault::Resume => record.signal_all("CONT"),
    }
}

/// What a service's own file hands over to be started.
struct Prepared {
    command: Command,
    port: u16,
    /// Of the administration's HTTP, where there is one.
    admin_port: Option<u16>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    match &arguments.task {
        Task::Up { services } => {
            let variables = ensure(&root, or_all(services))?;
            println!();
            variables.iter().for_each(|(name, value)| println!("{}", environment::line(name, value)));
            println!("\nIn a shell: . {}", base(&root).join(environment::FILE).display());
            Ok(())
        }
        Task::Down { services } => down(&base(&root), or_all(services)),
        Task::Fault { service, fault } => make(&root, *service, *fault),
        Task::Status { json } => status(&base(&root), *json),
    }
}

/// The environment variables that lead to these services and to any other that runs; those that do not run are started.
///
/// # Errors
/// When one is not installed, or does not answer in time.
pub(crate) fn ensure(root: &Path, services: &[Service]) -> Result<Vec<(String, String)>> {
    let base = base(root);
    let _lock = place::lock(&base)?;
    let outcome = services.iter().try_for_each(|service| ensure_one(root, &base, *service));
    // also of those that started before one failed
    let variables = write_environment(&base)?;
    outcome?;
    Ok(variables)
}

fn ensure_one(root: &Path, base: &Path, service: Service) -> Result<()> {
    if let Some(reason) = missing(root, service) {
        bail!("{} cannot run: {reason}", service.name());
    }
    let began = Instant::now();
    let record = match Record::alive(base, service.name()) {
        Some(record) => record,
        None => start(root, base, service)?,
    };
    let record = answering(base, service, record)?;
    let seconds = began.elapsed().as_secs_f64();
    println!("{:9} {} answers on port {} after {seconds:.1} s", service.name(), record.version, record.port);
    Ok(())
}

/// Ends every service of this work tree.
pub(crate) fn end(root: &Path) -> Result<()> {
    let base = base(root);
    let running: Vec<Service> =
        Service::ALL.iter().copied().filter(|service| Record::read(&base, service.name()).is_some()).collect();
    if running.is_empty() { Ok(()) } else { down(&base, &running) }
}

/// Why a service cannot run here: what to install.
pub(crate) fn missing(root: &Path, service: Service) -> Option<String> {
    if service != Service::Pulsar && tool(root, "openssl").is_none() {
        return Some("install the package openssl".to_owned());
    }
    match service {
        Service::Postgres => postgres::missing(),
        Service::Mariadb => mariadb::missing(root),
        Service::Pulsar => pulsar::missing(root),
    }
}

impl Service {
    const ALL: &[Self] = &[Self::Postgres, Self::Mariadb, Self::Pulsar];

    fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Mariadb => "mariadb",
            Self::Pulsar => "pulsar",
        }
    }

    /// How long it may take from start to first answer.
    fn patience(self) -> Duration {
        Duration::from_secs(if self == Self::Pulsar { 180 } else { 60 })
    }

    /// The signal that ends it in an orderly way, without waiting for its clients.
    fn farewell(self) -> &'static str {
        // PostgreSQL takes TERM as "when the last client has left", and INT as "now".
        if self == Self::Postgres { "INT" } else { "TERM" }
    }

    fn prepare(self, root: &Path, base: &Path) -> Result<Prepared> {
        match self {
            Self::Postgres => postgres::prepare(base),
            Self::Mariadb => mariadb::prepare(root, base),
            Self::Pulsar => pulsar::prepare(base),
        }
    }

    /// Its version, once it really answers.
    fn answers(self, record: &Record) -> Option<String> {
        match self {
            Self::Postgres => postgres::answers(record.port),
            Self::Mariadb => mariadb::answers(record.port),
            Self::Pulsar => pulsar::answers(record.admin_port?),
        }
    }
}

fn or_all(services: &[Service]) -> &[Service] {
    if services.is_empty() { Service::ALL } else { services }
}

fn base(root: &Path) -> PathBuf {
    std::env::var_os("ALPES_SERVICES_DIR").map_or_else(|| root.join("target/services"), |folder| root.join(folder))
}

fn start(root: &Path, base: &Path, service: Service) -> Result<Record> {
    let log = Place::fresh(base, service.name())?.log;
    let prepared = service.prepare(root, base).with_context(|| format!("{}; see {}", service.name(), log.display()))?;
    Record::spawn(base, service.name(), prepared)
}

/// Starts a service that was killed, over its data.
fn start_again(base: &Path, service: Service, killed: &Record) -> Result<()> {
    let log = Place::of(base, service.name()).log;
    let before = std::fs::metadata(&log)?.len();
    let mut record = killed.spawn_again(base, service.name())?;
    if service == Service::Pulsar && pulsar::is_beside_itself(&log, before, || record.is_alive())? {
        record.stop(service.farewell())?;
        record = killed.spawn_again(base, service.name())?;
    }
    answering(base, service, record).map(|_| ())
}

/// Waits for the first answer, and notes the version that it tells. What does not answer is ended, and its log is left.
fn answering(base: &Path, service: Service, mut record: Record) -> Result<Record> {
    let log = Place::of(base, service.name()).log;
    let began = Instant::now();
    loop {
        if let Some(version) = service.answers(&record) {
            record.version = version;
            record.write(base, service.name())?;
            return Ok(record);
        }
        let ended = !record.is_alive();
        if ended || began.elapsed() > service.patience() {
            record.stop(service.farewell())?;
            let what = if ended { "ended before it answered" } else { "does not answer in time" };
            bail!("{} {what}; the end of {}:\n{}", service.name(), log.display(), place::tail(&log, 20));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The first word of what a program prints, if it succeeds.
fn first_word(mut command: Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().next()?.to_owned())
}

fn down(base: &Path, services: &[Service]) -> Result<()> {
    let _lock = place::lock(base)?;
    for service in services {
        match Record::alive(base, service.name()) {
            Some(record) => {
                let began = Instant::now();
                let how = record.stop(service.farewell())?;
                println!("{:9} {how} after {:.1} s", service.name(), began.elapsed().as_secs_f64());
            }
            None => println!("{:9} does not run", service.name()),
        }
        Place::remove(base, service.name())?;
    }
    write_environment(base)?;
    Ok(())
}

fn write_environment(base: &Path) -> Result<Vec<(String, String)>> {
    let running = Service::ALL.iter().filter_map(|service| Some((*service, Record::alive(base, service.name())?)));
    let mut variables: Vec<_> =
        running.flat_map(|(service, record)| environment::variables(service, &record)).collect();
    if Record::alive(base, Service::Pulsar.name()).is_some() {
        let control = environment::write_control(base, Service::Pulsar.name())?;
        variables.push(("ALPES_TEST_PULSAR_CONTROL".to_owned(), control));
    }
    for service in [Service::Postgres, Service::Mariadb] {
        let alive = Record::alive(base, service.name());
        if let Some(file) = alive.and_then(|_| certificates::authority(base, service.name())) {
            let variable = format!("ALPES_TEST_{}_CA", service.name().to_uppercase());
            variables.push((variable, std::path::absolute(file)?.display().to_string()));
        }
    }
    environment::write(base, &variables)?;
    Ok(variables)
}

fn status(base: &Path, as_json: bool) -> Result<()> {
    let mut document = serde_json::Map::new();
    for service in Service::ALL {
        let name = service.name();
        let Some(record) = Record::alive(base, name) else {
            document.insert(name.to_owned(), json!({"running": false}));
            if !as_json {
                println!("{name:9} does not run");
            }
            continue;
        };
        let answers = service.answers(&record).is_some();
        let Record { pid, port, admin_port, version, .. } = &record;
        let memory_kb = record.memory_kb();
        if !as_json {
            let word = if answers { "answers" } else { "is silent" };
            println!("{name:9} {word:9}  pid {pid:>7}  port {port:>5}  {:>5} MB  {version}", memory_kb / 1_000);
        }
        let entry = json!({
            "running": true, "answers": answers, "pid": pid, "port": port, "admin_port": admin_port,
            "version": version, "memory_kb": memory_kb,
        });
        document.insert(name.to_owned(), entry);
    }
    if as_json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    }
    Ok(())
}
