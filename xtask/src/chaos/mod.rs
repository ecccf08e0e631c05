//! `cargo x chaos`: the product as processes that are killed, lose their disk or their database and get more than they
//! can take, while a client keeps its own synced journal of what was acknowledged. It knows the product only from outside; the one
//! rule of the money in it is the percentage of its own campaign.
#![expect(clippy::disallowed_methods, reason = "kills real processes at real times")]

mod client;
mod disk;
mod journal;
mod overload;
pub(crate) mod scale;
mod seen;

use crate::load::control::Control;
use crate::load::random::Random;
use crate::load::scene::Scene;
use crate::load::server::{Alpes, Running, Start, signal};
use crate::load::{Run, closed};
use anyhow::{Context as _, Result, ensure};
use client::Client;
use journal::Journal;
use seen::Seen;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

/// Arguments of `cargo x chaos`.
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Kills at random moments, besides one at every named crash point.
    #[arg(long, default_value_t = 30)]
    kills: u32,
    /// Seed of the moments and of the load.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only these crash points (repeatable), and no random kills.
    #[arg(long, value_name = "NAME")]
    point: Vec<String>,
    /// Instead: syncs that fail (needs strace) and a full disk (needs root for a small tmpfs); with --scale: a full disk of
    /// the database's.
    #[arg(long, conflicts_with_all = ["point", "overload"])]
    disk: bool,
    /// Instead: twice the load that can be served.
    #[arg(long, conflicts_with = "point")]
    overload: bool,
    /// Instead: several processes over one PostgreSQL, and Pulsar where it can run. Each of them is killed, frozen, cut off
    /// (needs root and nft) and restarted under load.
    #[arg(long, conflicts_with_all = ["point", "overload"])]
    scale: bool,
    /// With --scale: outages as long as in real life, in about ten minutes instead of four.
    #[arg(long, requires = "scale")]
    long: bool,
    /// With --scale: only the faults whose name contains this (repeatable).
    #[arg(long, requires = "scale", value_name = "WORDS")]
    fault: Vec<String>,
}

/// Connections of the load.
const CONNECTIONS: usize = 16;
/// Rounds on one database before it is drained, verified and replaced.
const ROUNDS_PER_DATABASE: usize = 10;
/// How long a named crash point may take to be reached.
const REACHED_WITHIN: Duration = Duration::from_secs(8);
/// Payouts of any size pass without a second person, whom the client does not have.
const ARGUMENTS: [&str; 2] = ["--payout-approval-limit-minor", "1000000000000"];
/// What `abort` ends a process with.
const SIGABRT: i32 = 6;

/// Runs the faults and prints what was compared.
///
/// # Errors
/// When anything that was acknowledged is lost or doubled, with the first differences.
pub(crate) fn run(args: &Args) -> Result<()> {
    let root = crate::process::root()?;
    let binary = crate::docs::alpes(&root)?;
    let place = root.join("target/chaos");
    std::fs::create_dir_all(&place)?;
    if args.overload {
        return overload::run(&binary, &place);
    }
    if args.scale {
        return scale::run(&root, &binary, &place, args);
    }
    if args.disk {
        return disk::run(&binary, &place, args.seed);
    }
    let deaths = plan(args, &crash_points(&binary)?);
    println!("seed {}; {} rounds of load, death, restart and comparison", args.seed, deaths.len());
    println!("{:>5}  {:<44} {:>6} {:>8} {:>9}", "round", "death", "acks", "unknown", "ready ms");
    let mut total = 0;
    for (number, deaths) in deaths.chunks(ROUNDS_PER_DATABASE).enumerate() {
        let mut world = World::create(&binary, &place, args.seed, number)?;
        for (index, death) in deaths.iter().enumerate() {
            let round = number * ROUNDS_PER_DATABASE + index + 1;
            let result = world.round(death, round);
            world = result.with_context(|| format!("round {round}, {death}, seed {}", args.seed))?;
        }
        total += world.finish().with_context(|| format!("after {deaths:?}, seed {}", args.seed))?;
    }
    println!("{total} acknowledged facts: none lost, none doubled; commissions to the cent; verify finds nothing");
    Ok(())
}

/// How a round's server dies.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Death {
    /// `kill -9` so long after the load began.
    Kill(Duration),
    /// By itself, when it passes the named point for the nth time.
    Point { name: String, nth: u64 },
}

impl std::fmt::Display for Death {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kill(after) => f.pad(&format!("kill -9 after {} ms", after.as_millis())),
            Self::Point { name, nth } => f.pad(&format!("{name}, time {nth}")),
        }
    }
}

/// Every crash point, then random moments, shuffled so that each database sees both.
fn plan(args: &Args, points: &[String]) -> Vec<Death> {
    let mut random = Random::new(args.seed);
    let wanted = |name: &&String| args.point.is_empty() || args.point.contains(name);
    let mut deaths: Vec<Death> = points
        .iter()
        .filter(wanted)
        .map(|name| Death::Point { name: name.clone(), nth: 1 + random.below(20) })
        .collect();
    if args.point.is_empty() {
        deaths.extend((0..args.kills).map(|_| Death::Kill(Duration::from_millis(20 + random.below(1_200)))));
    }
    for index in (1..deaths.len()).rev() {
        let other = usize::try_from(random.below(index as u64 + 1)).expect("an index");
        deaths.swap(index, other);
    }
    deaths
}

fn crash_points(binary: &Path) -> Result<Vec<String>> {
    let output = Command::new(binary).arg("crash-points").output()?;
    ensure!(output.status.success(), "alpes crash-points ended with {}", output.status);
    let names: Vec<String> = String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect();
    ensure!(!names.is_empty(), "alpes has no crash points: is it built with debug assertions?");
    Ok(names)
}

/// One database, the client that writes to it, and what the client has seen of it.
struct World {
    alpes: Alpes,
    key: String,
    client: Client,
    seen: Seen,
}

impl World {
    fn create(binary: &Path, place: &Path, seed: u64, number: usize) -> Result<Self> {
        let alpes = Alpes::fresh(binary, &place.join(format!("data-{number}")))?;
        let (running, client) = start(&alpes, place, seed.wrapping_add(number as u64))?;
        let key = running.control.key.clone();
        drop(running); // killed, like every other
        Ok(Self { alpes, key, client, seen: Seen::default() })
    }

    /// Load, death, restart, comparison, repetition of what has no answer, comparison.
    fn round(mut self, death: &Death, number: usize) -> Result<Self> {
        let before = self.client.journal.acknowledged()?.len();
        let mut reached;
        (self, reached) = self.load_until_death(death)?;
        if let (false, Death::Point { name, .. }) = (reached, death) {
            // So late a passage may never come: take the first.
            (self, reached) = self.load_until_death(&Death::Point { name: name.clone(), nth: 1 })?;
        }
        ensure!(reached, "the crash point was not reached within {REACHED_WITHIN:?}");
        let acknowledged = self.client.journal.acknowledged()?.len() - before;
        let unknown = self.client.unknown.len();
        let running = self.alpes.serve(&Start::with(&ARGUMENTS), &self.key)?;
        self.recover(&running)?;
        println!("{number:>5}  {death:<44} {acknowledged:>6} {unknown:>8} {:>9}", running.ready_after.as_millis());
        Ok(self)
    }

    /// Compares what is there after a restart, repeats what has no answer, and compares again.
    fn recover(&mut self, running: &Running) -> Result<()> {
        self.client.reach(running.control.clone());
        self.seen.pull(&running.control)?;
        let journal = self.client.journal.acknowledged()?;
        report("lost or doubled after the restart", &self.seen.missing(&journal))?;
        self.client.repeat_unknown()?;
        self.seen.pull(&running.control)?;
        let journal = self.client.journal.acknowledged()?;
        report("different after repeating what had no answer", &self.seen.differences(&journal))
    }

    /// Whether the server died as planned.
    fn load_until_death(mut self, death: &Death) -> Result<(Self, bool)> {
        let mut start = Start::with(&ARGUMENTS);
        let limit = match death {
            Death::Kill(after) => *after,
            Death::Point { name, nth } => {
                start.environment.push(("ALPES_CRASH_AT".to_owned(), format!("{name}:{nth}")));
                REACHED_WITHIN
            }
        };
        let mut running = self.alpes.spawn(&start, &self.key)?;
        if let Some(status) = running.wait_until_ready()? {
            let reached = matches!(death, Death::Point { .. }) && status.signal() == Some(SIGABRT);
            return Ok((self, reached));
        }
        self.client.reach(running.control.clone());
        let (cancel, cancelled) = mpsc::channel::<()>();
        let pid = running.pid();
        let killer = std::thread::spawn(move || {
            let waited = cancelled.recv_timeout(limit);
            // It is not waited for before this thread has ended, so the id is still its own, dead or alive.
            if waited == Err(mpsc::RecvTimeoutError::Timeout) { signal("KILL", pid) } else { Ok(()) }
        });
        let plan = closed::Plan {
            address: running.control.address,
            connections: CONNECTIONS,
            warm_up: Duration::ZERO,
            time: Duration::from_secs(60),
        };
        let Run { traffic, .. } = closed::run(&plan, self.client)?;
        self.client = traffic;
        drop(cancel);
        killer.join().map_err(|_| anyhow::anyhow!("the killer panicked"))??;
        let status = running.kill()?;
        self.client.check()?;
        let reached = matches!(death, Death::Kill(_)) || status.signal() == Some(SIGABRT);
        Ok((self, reached))
    }

    /// Lets the reactions finish, compares everything from the first event on, stops and verifies. Returns how many
    /// facts were acknowledged.
    fn finish(mut self) -> Result<usize> {
        let running = self.alpes.serve(&Start::with(&ARGUMENTS), &self.key)?;
        self.client.reach(running.control.clone());
        let count = settle(&self.client, &running.control)?;
        running.stop()?;
        self.alpes.verify()?;
        std::fs::remove_dir_all(&self.alpes.data)?;
        Ok(count)
    }
}

/// A server with a scene on a fresh database, and a client for it. Holds end at once, so that approvals and payouts
/// are under way too.
fn start(alpes: &Alpes, place: &Path, seed: u64) -> Result<(Running, Client)> {
    let running = alpes.serve_with_key(&Start::with(&ARGUMENTS))?;
    let scene = Scene::create(running.control.clone(), 0)?;
    let journal: PathBuf = place.join("journal");
    Ok((running, Client::new(scene, Journal::create(&journal)?, seed)))
}

/// Waits until the reactions are done, reads every event again and compares everything. Returns how many facts were
/// acknowledged.
fn settle(client: &Client, control: &Control) -> Result<usize> {
    control.drain(Duration::from_secs(180))?;
    let mut seen = Seen::default();
    seen.pull(control)?;
    let journal = client.journal.acknowledged()?;
    report("different in the whole history", &seen.differences(&journal))?;
    report("commissions that differ", &seen.wrong_commissions(&client.sales, &client.refunds))?;
    client.repeat_acknowledged()?;
    Ok(journal.len())
}

/// An error with the first differences, if there are any.
fn report(what: &str, differences: &[String]) -> Result<()> {
    let first = differences.iter().take(10).cloned().collect::<Vec<_>>().join("\n  ");
    ensure!(differences.is_empty(), "{} {what}:\n  {first}", differences.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(seed: u64, point: &[&str]) -> Args {
        let point = point.iter().map(|name| (*name).to_owned()).collect();
        Args { kills: 30, seed, point, disk: false, overload: false, scale: false, long: false, fault: Vec::new() }
    }

    #[test]
    fn every_crash_point_is_in_the_plan_and_the_seed_decides_the_rest() {
        let points = ["a", "b", "c"].map(str::to_owned);
        let deaths = plan(&args(1, &[]), &points);
        assert_eq!(deaths.len(), 33);
        for point in &points {
            assert!(deaths.iter().any(|death| matches!(death, Death::Point { name, .. } if name == point)));
        }
        assert_eq!(deaths, plan(&args(1, &[]), &points));
        assert_ne!(deaths, plan(&args(2, &[]), &points));
        assert_eq!(plan(&args(1, &["b"]), &points).len(), 1);
    }
}
