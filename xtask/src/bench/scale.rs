//! The product over server databases: PostgreSQL and MariaDB, started for the measurement on this machine, with sync on.

use super::figures::{Better, Figure, fact, goal};
use super::reactions::{Load, caught_up, readable_at};
use super::{Context, Measurement, Readings, Suite, broker, head, intake};
use crate::process::{root, run};
use crate::services::{self, Service};
use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use Better::{Higher, Lower};

/// A server with databases.
pub(super) struct Server {
    service: Service,
    /// The URL up to the database's name.
    base: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Server {
    /// Starts it, unless it runs.
    fn start(service: Service) -> Result<Self> {
        let root = root()?;
        let name = if service == Service::Postgres { "ALPES_TEST_POSTGRES" } else { "ALPES_TEST_MARIADB" };
        let variables = services::ensure(&root, &[service])?;
        let url = variables.into_iter().find(|(known, _)| known == name).context("the service has no URL")?.1;
        let (base, _) = url.rsplit_once('/').context("the URL has a database")?;
        Ok(Self { service, base: base.to_owned() })
    }

    /// Makes a database and answers its URL.
    pub(super) fn fresh_database(&self, name: &str) -> Result<String> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("bench_{}_{}_{number}", name.replace('-', "_"), std::process::id());
        let command = if self.service == Service::Postgres {
            let mut psql = Command::new("psql");
            psql.args(["--quiet", "--dbname", &format!("{}/alpes", self.base)]);
            psql.args(["--command", &format!("CREATE DATABASE {name}")]);
            psql
        } else {
            let port = self.base.rsplit_once(':').context("the URL has a port")?.1;
            let mut mariadb = Command::new("mariadb");
            mariadb.args(["--host", "127.0.0.1", "--port", port, "--user", "alpes", "--password=alpes"]);
            mariadb.args(["--execute", &format!("CREATE DATABASE {name}")]);
            mariadb
        };
        let outcome = run(command, crate::process::Show::Nothing)?;
        ensure!(outcome.success, "the database {name} cannot be made: {}", outcome.text);
        Ok(format!("{}/{name}", self.base))
    }
}

/// The same context over a server.
fn over(context: &Context, service: Service) -> Result<Context> {
    Ok(Context {
        binary: context.binary.clone(),
        data: context.data.clone(),
        quick: context.quick,
        repetition: context.repetition,
        server: Some(Server::start(service)?),
    })
}

pub(super) const SUITE: Suite =
    Suite { measurements: MEASUREMENTS, figures: FIGURES, title: TITLE, document: "benchmarks-scale", rules: RULES };

const TITLE: &str = "Benchmarks on server databases";

const MEASUREMENTS: &[Measurement] = &[
    Measurement { name: "postgres-single", repetitions: 3, timed: false, run: postgres_single },
    Measurement { name: "postgres-open", repetitions: 3, timed: false, run: postgres_open },
    Measurement { name: "mariadb-single", repetitions: 3, timed: false, run: mariadb_single },
    Measurement { name: "postgres-reactions", repetitions: 3, timed: false, run: postgres_reactions },
    Measurement { name: "postgres-readable", repetitions: 3, timed: false, run: postgres_readable },
    Measurement { name: "postgres-broker", repetitions: 3, timed: false, run: postgres_broker },
    Measurement { name: "reactors", repetitions: 3, timed: false, run: reactors },
    Measurement { name: "log-head", repetitions: 3, timed: false, run: log_head },
];

#[rustfmt::skip]
const FIGURES: &[Figure] = &[
    goal("postgres-single", "postgres-single", "PostgreSQL: single POSTs, 64 connections, saturated, reactions running", "/s", Higher, (6_000.0, 10_000.0)),
    fact("postgres-single-alone", "postgres-single", "… reactions off", "/s", Higher),
    goal("postgres-open-p95", "postgres-open", "PostgreSQL: open loop 3,000/s (Poisson), reactions running: p95", "ms", Lower, (40.0, 20.0)),
    fact("postgres-open-p99", "postgres-open", "… p99", "ms", Lower),
    fact("postgres-open-backlog", "postgres-open", "… events that the reactions are behind at the end", "", Lower),
    goal("mariadb-single", "mariadb-single", "MariaDB: single POSTs, 64 connections, saturated, reactions running", "/s", Higher, (4_000.0, 6_000.0)),
    fact("mariadb-single-alone", "mariadb-single", "… reactions off", "/s", Higher),
    goal("postgres-reactions", "postgres-reactions", "PostgreSQL: event → attributed → commission + postings + events", "conversions/s", Higher, (4_000.0, 8_000.0)),
    goal("hot-partner", "postgres-reactions", "… half of all events on one partner, against the even load", "x", Higher, (0.8, 1.0)),
    fact("postgres-disk", "postgres-reactions", "… the database per conversion, all told", "kB", Lower),
    goal("postgres-readable-p99", "postgres-readable", "PostgreSQL: 2xx → commission readable, 500/s: p99", "ms", Lower, (100.0, 60.0)),
    fact("postgres-readable-p50", "postgres-readable", "… p50", "ms", Lower),
    goal("broker-p99", "postgres-broker", "PostgreSQL: 2xx → event received from Pulsar, 500/s: p99", "ms", Lower, (150.0, 80.0)),
    fact("broker-p50", "postgres-broker", "… p50", "ms", Lower),
    fact("reactors-1", "reactors", "one process that reacts", "conversions/s", Higher),
    goal("reactors-2", "reactors", "… two, against one", "x", Higher, (1.0, 1.0)),
    goal("reactors-4", "reactors", "… four, against one", "x", Higher, (1.0, 1.0)),
    fact("head-1-1", "log-head", "appending to the log by pgbench, one writer, one event per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-1-1", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
    fact("head-4-1", "log-head", "… 4 writers, one event per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-4-1", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
    fact("head-8-1", "log-head", "… 8 writers, one event per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-8-1", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
    fact("head-1-64", "log-head", "… one writer, 64 events per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-1-64", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
    fact("head-4-64", "log-head", "… 4 writers, 64 events per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-4-64", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
    fact("head-8-64", "log-head", "… 8 writers, 64 events per transaction: positions in the order of commits", "events/s", Higher),
    fact("sequence-8-64", "log-head", "… the same from a sequence, in no order", "events/s", Higher),
];

fn value(readings: &Readings, name: &str) -> Result<f64> {
    let found = readings.values.iter().find(|(known, _)| *known == name);
    found.map(|(_, value)| *value).with_context(|| format!("no value {name}"))
}

fn single(context: &Context, service: Service, names: [&'static str; 2]) -> Result<Readings> {
    let context = &over(context, service)?;
    let run = |name, arguments: &[&str]| intake::saturate(context, name, arguments, 1, intake::CONNECTIONS);
    let ((reacting, behind), (alone, _)) =
        intake::in_turn(context, || run("reacting", &[]), || run("alone", &["--roles", "api"]))?;
    Ok(Readings {
        values: vec![(names[0], intake::rate(&reacting)), (names[1], intake::rate(&alone))],
        raw: json!({"reacting": reacting.to_json(), "alone": alone.to_json(), "behind": behind}),
    })
}

fn postgres_single(context: &Context) -> Result<Readings> {
    single(context, Service::Postgres, ["postgres-single", "postgres-single-alone"])
}

fn mariadb_single(context: &Context) -> Result<Readings> {
    single(context, Service::Mariadb, ["mariadb-single", "mariadb-single-alone"])
}

fn postgres_open(context: &Context) -> Result<Readings> {
    let found = intake::open_at(&over(context, Service::Postgres)?, 3_000)?;
    let values = vec![
        ("postgres-open-p95", value(&found, "open-p95")?),
        ("postgres-open-p99", value(&found, "open-p99")?),
        ("postgres-open-backlog", value(&found, "open-backlog")?),
    ];
    Ok(Readings { values, raw: found.raw })
}

fn count(context: &Context) -> u64 {
    if context.quick { 10_000 } else { 60_000 }
}

fn postgres_reactions(context: &Context) -> Result<Readings> {
    let context = &over(context, Service::Postgres)?;
    let run = |hot| caught_up(context, &Load { count: count(context), hot, others: 0 });
    let (even, hot) = intake::in_turn(context, || run(false), || run(true))?;
    let rates = (value(&even, "reactions")?, value(&hot, "reactions")?);
    Ok(Readings {
        values: vec![
            ("postgres-reactions", rates.0),
            ("hot-partner", rates.1 / rates.0),
            ("postgres-disk", even.raw["bytes"].as_f64().context("no size")? / 1_000.0 / count(context) as f64),
        ],
        raw: json!({"even": even.raw, "hot": hot.raw}),
    })
}

fn postgres_readable(context: &Context) -> Result<Readings> {
    let found = readable_at(&over(context, Service::Postgres)?, 500)?;
    let values = vec![
        ("postgres-readable-p50", value(&found, "readable-p50")?),
        ("postgres-readable-p99", value(&found, "readable-p99")?),
    ];
    Ok(Readings { values, raw: found.raw })
}

fn postgres_broker(context: &Context) -> Result<Readings> {
    broker::received_at(&over(context, Service::Postgres)?, 500)
}

fn log_head(context: &Context) -> Result<Readings> {
    head::cost(&over(context, Service::Postgres)?)
}

fn reactors(context: &Context) -> Result<Readings> {
    let context = &over(context, Service::Postgres)?;
    let run = |others| caught_up(context, &Load { count: count(context), hot: false, others });
    let (one, two, four) = (run(0)?, run(1)?, run(3)?);
    let rate = |readings: &Readings| value(readings, "reactions");
    let first = rate(&one)?;
    Ok(Readings {
        values: vec![("reactors-1", first), ("reactors-2", rate(&two)? / first), ("reactors-4", rate(&four)? / first)],
        raw: json!({"one": one.raw, "two": two.raw, "four": four.raw}),
    })
}

const RULES: &str = "\
## How it is measured
- PostgreSQL 15 and MariaDB 10.11 from Debian's packages, started for the measurement on the same two cores as the
  product and the load generator, on loopback, with `fsync` and `synchronous_commit` on, `sync_binlog=1` and
  `innodb_flush_log_at_trx_commit=1`; 256 MB of buffers each, otherwise their defaults.
- A fresh database for every run. Saturated figures come from a closed loop, latencies from an open loop and count from
  the planned send time. Ten seconds of warm-up are not counted.
- The databases' own work is load, so that a repetition cannot be told to be void by the load of others, as in
  `benchmarks.md`: the machine had nothing else to do.
- Raw data is left in `target/bench/`.
";
