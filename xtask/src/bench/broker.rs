//! How soon an event is on the broker: from the 2xx of a conversion until a subscriber has it.

use super::intake::milliseconds;
use super::{Context, Readings, all_accepted};
use crate::load::connection::Reply;
use crate::load::conversions::Conversions;
use crate::load::histogram::Histogram;
use crate::load::server::Start;
use crate::load::{Traffic, open};
use crate::process::{cargo, must_run, root};
use crate::services::{self, Service};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

const TOPIC: &str = "conversions.conversion";
const EVENT: &str = "conversions.recorded.v1";

/// Over the database of `context`, at `rate` conversions per second; everything is one process but database and broker.
pub(super) fn received_at(context: &Context, rate: u64) -> Result<Readings> {
    let [broker, admin] = start()?;
    let namespace = format!("bench-{}-{}", std::process::id(), context.repetition);
    let arguments = ["--pulsar", &broker, "--pulsar-admin", &admin, "--pulsar-namespace", &namespace];
    let mut setup = Command::new(&context.binary);
    setup.args(["topics", "setup"]).args(arguments);
    must_run("the broker's topics", "they cannot be made", setup)?;
    let (_, running, scene) = context.scene("broker", &Start::with(&arguments))?;
    let mut receiver = Command::new(receiver()?);
    receiver.args([&broker, &admin, &namespace, TOPIC]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut receiver = receiver.spawn().context("starting the receiver")?;
    let lines = lines(&mut receiver)?;
    let plan = open::Plan {
        address: running.control.address,
        connections: 64,
        rate,
        arrivals: open::Arrivals::Poisson,
        warm_up: Duration::ZERO,
        time: context.warm_up() + context.seconds(45, 4),
    };
    let conversions = Conversions::new(&scene, "broker", 1, 0, 1 << 39);
    let from = micros() + context.warm_up().as_micros();
    let run = open::run(&plan, Answered { conversions, answers: BTreeMap::new() })?;
    all_accepted(&run.meter)?;
    let arrivals = arrivals(&lines, run.traffic.answers.len())?;
    drop(receiver.stdin.take());
    ensure!(receiver.wait()?.success(), "the receiver failed");
    running.stop()?;
    let mut delays = Histogram::default();
    for (conversion, answered) in &run.traffic.answers {
        let arrived = arrivals.get(conversion).with_context(|| format!("{conversion} is not on the broker"))?;
        if *answered >= from {
            delays.record(u64::try_from(arrived.saturating_sub(*answered))?);
        }
    }
    Ok(Readings {
        values: vec![
            ("broker-p50", milliseconds(delays.quantile(500))),
            ("broker-p99", milliseconds(delays.quantile(990))),
        ],
        raw: json!({"samples": delays.count(), "delay_us": delays.buckets(), "run": run.meter.to_json()}),
    })
}

/// The broker's URLs.
fn start() -> Result<[String; 2]> {
    let variables: BTreeMap<_, _> = services::ensure(&root()?, &[Service::Pulsar])?.into_iter().collect();
    let value = |name: &str| variables.get(name).cloned().with_context(|| format!("the broker has no {name}"));
    Ok([value("ALPES_TEST_PULSAR")?, value("ALPES_TEST_PULSAR_ADMIN")?])
}

/// Builds the program that subscribes.
fn receiver() -> Result<PathBuf> {
    let root = root()?;
    let arguments = ["build", "--quiet", "--release", "--package", "log-pulsar", "--example", "received"];
    must_run("building the receiver", "it does not compile", cargo(&root, arguments))?;
    Ok(root.join("target/release/examples/received"))
}

/// What the receiver prints, line by line.
fn lines(receiver: &mut Child) -> Result<mpsc::Receiver<String>> {
    let output = BufReader::new(receiver.stdout.take().context("piped")?);
    let (send, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    Ok(lines)
}

/// When each of so many conversions arrived first.
fn arrivals(lines: &mpsc::Receiver<String>, count: usize) -> Result<BTreeMap<String, u128>> {
    let mut arrivals = BTreeMap::new();
    while arrivals.len() < count {
        let line = lines.recv_timeout(Duration::from_secs(30));
        let line = line.with_context(|| format!("{} of {count} conversions are on the broker", arrivals.len()))?;
        if let [subject, EVENT, time] = line.split(' ').collect::<Vec<_>>().as_slice() {
            arrivals.entry((*subject).to_owned()).or_insert(time.parse()?);
        }
    }
    Ok(arrivals)
}

/// Notes when each conversion was answered.
struct Answered {
    conversions: Conversions,
    answers: BTreeMap<String, u128>,
}

impl Traffic for Answered {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<u64> {
        self.conversions.next(buffer)
    }

    fn done(&mut self, tag: u64, reply: Option<&Reply<'_>>) {
        self.conversions.done(tag, reply);
        let now = micros();
        let body: Option<Value> = reply.and_then(|reply| serde_json::from_slice(reply.body).ok());
        if let Some(id) = body.as_ref().and_then(|body| body["id"].as_str()) {
            self.answers.insert(id.to_owned(), now);
        }
    }
}

/// Since 1970: the receiver is another process.
fn micros() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_micros())
}
