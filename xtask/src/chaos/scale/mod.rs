//! `cargo x chaos --scale`: several processes over one PostgreSQL, and a broker where one can run, while processes, the
//! database, its sessions and the broker are killed, frozen and restarted under load. What the client's synced journal
//! says was acknowledged is compared with the log after every fault, and everything at the end.

mod cluster;
mod faults;
mod full;
mod lines;
pub(crate) mod soak;
mod topics;
mod wires;

use super::client::Client;
use super::journal::Journal;
use super::seen::Seen;
use crate::load::balanced::{self, Outcome, Plan, Reason};
use crate::load::meter::milliseconds;
use crate::load::scene::Scene;
use anyhow::{Context as _, Result, anyhow};
use cluster::{Cluster, SERVERS};
use faults::{Fault, Measured};
use lines::Lines;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Requests per second; one in 25 carries fifty facts. The short form has fewer, because every comparison reads all of it.
const RATE: u32 = 150;
const RATE_OF_SHORT: u32 = 60;
const CONNECTIONS: u32 = 48;
/// Load before a fault and after it.
const AROUND: Duration = Duration::from_millis(1_500);

/// Runs the programme and prints a line per fault.
///
/// # Errors
/// When anything is lost, doubled, refused in another way than agreed, or not taken over in time.
pub(super) fn run(root: &Path, binary: &Path, place: &Path, args: &super::Args) -> Result<()> {
    if args.disk {
        return full::run(root, binary, place, args);
    }
    let (began, seed) = (Instant::now(), args.seed);
    let mut world = World::create(root, binary, &place.join("scale"), seed, true)?;
    let rate = if args.long { RATE } else { RATE_OF_SHORT };
    println!("{rate} requests/s over {} servers, seed {seed}", SERVERS.len());
    println!("{}", Line::HEADINGS);
    let mut wrong = Vec::new();
    let wanted = |fault: &Fault| {
        args.fault.is_empty() || args.fault.iter().any(|words| fault.to_string().contains(words.as_str()))
    };
    let programme = faults::programme(args.long, &world.cluster);
    for fault in programme.into_iter().filter(wanted) {
        let line;
        (world, line) = world.round(fault, rate).with_context(|| format!("{fault}, seed {seed}"))?;
        println!("{line}");
        wrong.extend(line.wrong.iter().map(|what| format!("{fault}: {what}")));
    }
    let finished = world.finish();
    super::report("things that were not as they should be", &wrong)?;
    let count = finished?;
    println!(
        "{count} acknowledged facts in {} s: none lost, none doubled; commissions to the cent; verify finds nothing",
        began.elapsed().as_secs()
    );
    Ok(())
}

/// The installation, the client that writes to it, and what was seen of both ends.
struct World {
    cluster: Cluster,
    client: Client,
    seen: Seen,
    lines: Lines,
}

impl World {
    fn create(root: &Path, binary: &Path, place: &Path, seed: u64, with_broker: bool) -> Result<Self> {
        if place.exists() {
            std::fs::remove_dir_all(place)?;
        }
        std::fs::create_dir_all(place)?;
        let cluster = Cluster::create(root, binary, place, &super::ARGUMENTS, with_broker)?;
        let scene = Scene::create(cluster.control(), 0)?;
        let client = Client::new(scene, Journal::create(&place.join("journal"))?, seed);
        Ok(Self { cluster, client, seen: Seen::default(), lines: Lines::default() })
    }

    /// Load, a fault under it, load, comparison.
    fn round(self, fault: Fault, rate: u32) -> Result<(Self, Line)> {
        let (world, line, _) = self.under_load(fault, rate, (AROUND, AROUND))?;
        Ok((world, line))
    }

    /// The same at another rate, with so much time before the fault, and at least so much in all.
    fn under_load(mut self, fault: Fault, rate: u32, time: (Duration, Duration)) -> Result<(Self, Line, Outcome)> {
        let (began, (before, in_all)) = (Instant::now(), time);
        let count = self.client.journal.acknowledged()?.len();
        self.client.reach(self.cluster.control());
        let load = Load::start(self.cluster.addresses(), self.client, rate);
        std::thread::sleep(before);
        let measured = fault.make(&mut self.cluster);
        std::thread::sleep(AROUND.max(in_all.saturating_sub(began.elapsed())));
        let (outcome, client) = load.stop()?;
        self.client = client;
        let measured = measured?;
        self.cluster.everyone_lives()?;
        self.client.check()?;
        let mut line = Line::new(fault, &outcome, &measured);
        line.errors = self.client.unknown.len() as u64;
        self.compare(&mut line)?;
        line.acknowledged = self.client.journal.acknowledged()?.len() - count;
        self.cluster.verify()?;
        line.judge(&outcome);
        Ok((self, line, outcome))
    }

    /// Compares what is there with the journal, repeats what has no answer, and compares again.
    fn compare(&mut self, line: &mut Line) -> Result<()> {
        let control = self.cluster.control();
        self.seen.pull(&control)?;
        let mut wrong = self.seen.missing(&self.client.journal.acknowledged()?);
        self.client.repeat_unknown()?;
        self.seen.pull(&control)?;
        wrong.extend(self.seen.differences(&self.client.journal.acknowledged()?));
        wrong.sort_unstable();
        wrong.dedup();
        let is_lost = |what: &&String| what.contains(" is lost") || what.contains("created 0 times");
        line.lost = wrong.iter().filter(is_lost).count();
        line.doubled = wrong.len() - line.lost;
        line.wrong.extend(wrong);
        if let Err(error) = self.lines.pull(&self.cluster.lines) {
            line.wrong.push(format!("the relay's file: {error:#}"));
        }
        Ok(())
    }

    /// Lets everything finish and compares it from the first event on. Returns how many facts were acknowledged.
    fn finish(mut self) -> Result<usize> {
        let moment = Instant::now();
        let control = self.cluster.control();
        let head = control.drain(Duration::from_secs(120))?;
        self.lines.pull(&self.cluster.lines)?;
        anyhow::ensure!(self.lines.position == head, "the file ends at {} and the log at {head}", self.lines.position);
        println!("drained {head} events after {} ms; the file has each once, in order", moment.elapsed().as_millis());
        if let Some(broker) = &self.cluster.broker {
            println!("{}", topics::check(broker, head)?);
        }
        let count = super::settle(&self.client, &control)?;
        self.cluster.verify()?;
        self.cluster.drill()?;
        println!("a backup of it, restored, verifies too");
        self.cluster.finish()?;
        Ok(count)
    }
}

/// Load that goes on until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(Outcome, Client)>>,
}

impl Load {
    fn start(addresses: Vec<std::net::SocketAddr>, client: Client, rate: u32) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let plan = Plan { addresses, connections: CONNECTIONS, rate, stop: Arc::clone(&stop) };
        Self { stop, thread: std::thread::spawn(move || balanced::run(&plan, client)) }
    }

    fn stop(self) -> Result<(Outcome, Client)> {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the load panicked"))?
    }
}

/// What became of a fault.
struct Line {
    fault: Fault,
    acknowledged: usize,
    /// Requests that did not succeed although they were repeated.
    errors: u64,
    /// Answers and connections after which a request was sent again.
    repeats: String,
    p99: String,
    slowest: String,
    takeover: Option<Duration>,
    /// Until each server had written again.
    back: Option<Duration>,
    caught_up: Duration,
    lost: usize,
    doubled: usize,
    wrong: Vec<String>,
}

impl Line {
    const HEADINGS: &'static str = "fault                               acks errors   p99 ms   max ms takeover     back \
                                    caught up lost doubled  sent again because of";

    fn new(fault: Fault, outcome: &Outcome, measured: &Measured) -> Self {
        let repeats: Vec<String> = outcome.repeats.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        Self {
            fault,
            acknowledged: 0,
            errors: 0,
            repeats: repeats.join(", "),
            p99: milliseconds(outcome.latency.quantile(990)),
            slowest: milliseconds(outcome.latency.maximum()),
            takeover: measured.takeover,
            back: outcome.back_after(measured.healed, SERVERS.len()),
            caught_up: measured.caught_up,
            lost: 0,
            doubled: 0,
            wrong: Vec::new(),
        }
    }

    /// Notes what is not as agreed.
    fn judge(&mut self, outcome: &Outcome) {
        let mut wrong = Vec::new();
        let mut say = |is_wrong: bool, what: String| {
            if is_wrong {
                wrong.push(what);
            }
        };
        say(self.errors > 0, format!("{} requests failed although they were repeated", self.errors));
        let bare = outcome.without_retry_after;
        say(bare > 0, format!("{bare} refusals without Retry-After"));
        say(
            self.back.is_none_or(|back| back > self.fault.back_within()),
            format!("writing again only after {:?}", self.back),
        );
        let refused = outcome.repeats.keys().any(|reason| matches!(reason, Reason::Status(_)));
        say(refused && !self.fault.stops_writing(), format!("requests were refused: {}", self.repeats));
        let served = matches!(self.fault, Fault::KillDatabase(_) | Fault::FullDisk(_)) && !refused;
        say(served, "no request was refused while the database could not write".to_owned());
        let noticed = matches!(self.fault, Fault::KillBroker(_)) && !outcome.repeats.is_empty();
        say(noticed, format!("those who write noticed it: {}", self.repeats));
        self.wrong.append(&mut wrong);
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let time = |time: Option<Duration>| time.map_or_else(|| "-".to_owned(), |time| time.as_millis().to_string());
        write!(
            f,
            "{:<34} {:>5} {:>6} {:>8} {:>8} {:>8} {:>8} {:>9} {:>4} {:>7}  {}",
            self.fault,
            self.acknowledged,
            self.errors,
            self.p99,
            self.slowest,
            time(self.takeover),
            time(self.back),
            self.caught_up.as_millis(),
            self.lost,
            self.doubled,
            self.repeats
        )?;
        self.wrong.iter().take(5).try_for_each(|what| write!(f, "\n    WRONG: {what}"))
    }
}
