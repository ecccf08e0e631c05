//! Figures that are the same on every machine: statements, syncs and bytes of the write-ahead log. They are counted,
//! the latter two by strace on the running server, so CI can hold them to a threshold.

use super::{Context, Readings, all_accepted};
use crate::load::closed;
use crate::load::conversions::Conversions;
use crate::load::server::{Alpes, Running, Start};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The thresholds: figures per conversion, about 40 % above what was measured first; slices adapt to the machine, so
/// statements and syncs of reactions have more room. Raise one only with the reason in the commit message.
const GATES: &[Gate] = &[
    Gate { name: "intake: statements", at_most: 0.010 },
    Gate { name: "intake: syncs", at_most: 0.003 },
    Gate { name: "intake: WAL bytes", at_most: 1_200.0 },
    Gate { name: "reactions: statements", at_most: 0.25 },
    Gate { name: "reactions: syncs", at_most: 0.016 },
    Gate { name: "reactions: WAL bytes", at_most: 3_600.0 },
];

struct Gate {
    name: &'static str,
    at_most: f64,
}

/// Conversions of a gate run, in bulk calls of 1,000, one after the other.
const CONVERSIONS: u64 = 20_000;

/// What strace saw of a server: its log file.
struct Trace {
    log: PathBuf,
}

/// Counts up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    statements: u64,
    syncs: u64,
    wal_bytes: u64,
}

impl Trace {
    fn beside(alpes: &Alpes) -> Self {
        Self { log: alpes.data.with_extension("strace") }
    }

    /// The wrapper that runs the server as the process that is started, with strace beside it.
    fn start(&self, arguments: &[&str]) -> Start {
        let log = self.log.display().to_string();
        let wrapper = ["strace", "-D", "-f", "-qq", "--seccomp-bpf", "-y", "-s", "0", "-e"];
        let wrapper = wrapper.into_iter().chain(["trace=fdatasync,fsync,pwrite64", "-o", &log]);
        Start { wrapper: wrapper.map(str::to_owned).collect(), ..Start::with(arguments) }
    }

    fn counts(&self, running: &Running) -> Result<Counts> {
        let statements = running.control.metric("alpes_database_statements_total")?;
        let statements = statements.context("no metric alpes_database_statements_total")?;
        let (syncs, wal_bytes) = read_log(&std::fs::read_to_string(&self.log)?);
        Ok(Counts { statements, syncs, wal_bytes })
    }
}

/// Syncs that succeeded, and bytes written to the write-ahead log.
fn read_log(log: &str) -> (u64, u64) {
    let result = |line: &str| line.rsplit_once(" = ")?.1.split_whitespace().next()?.parse::<u64>().ok();
    let (mut syncs, mut wal_bytes) = (0, 0);
    // A call that another thread's call interrupts is logged in two lines; only the first names the file.
    let mut unfinished_wal = std::collections::BTreeSet::new();
    for line in log.lines() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let sync = line.contains("fdatasync") || line.contains("fsync");
        if line.ends_with("<unfinished ...>") {
            if !sync && line.contains("alpes.db-wal>") {
                unfinished_wal.insert(thread);
            }
        } else if sync {
            syncs += u64::from(result(line) == Some(0));
        } else if line.contains("alpes.db-wal>") || (line.contains("resumed>") && unfinished_wal.remove(thread)) {
            wal_bytes += result(line).unwrap_or(0);
        }
    }
    (syncs, wal_bytes)
}

/// Measures every gate and fails when one is exceeded.
pub(super) fn check(context: &Context) -> Result<()> {
    if !has_strace() {
        ensure!(std::env::var_os("CI").is_none(), "bench --gates needs strace");
        println!("not run: bench --gates (strace is absent)");
        return Ok(());
    }
    let values = measure(context)?;
    let mut exceeded = Vec::new();
    for (gate, value) in GATES.iter().zip(values) {
        println!("{:<28}{value:>12.4} per conversion, at most {}", gate.name, gate.at_most);
        if value > gate.at_most {
            exceeded.push(gate.name);
        }
    }
    if !exceeded.is_empty() {
        bail!("exceeded: {}", exceeded.join(", "));
    }
    Ok(())
}

fn measure(context: &Context) -> Result<Vec<f64>> {
    let alpes = Alpes::fresh(&context.binary, &context.data.join("gates"))?;
    let trace = Trace::beside(&alpes);
    let running = alpes.serve_with_key(&trace.start(&["--roles", "api"]))?;
    let scene = crate::load::scene::Scene::create(running.control.clone(), 30)?;
    let key = running.control.key.clone();
    let before = trace.counts(&running)?;
    load(&scene, 1, 1_000, CONVERSIONS)?;
    let after = trace.counts(&running)?;
    running.stop()?;
    let running = alpes.serve(&trace.start(&[]), &key)?;
    running.control.drain(Duration::from_secs(300))?;
    let reacted = trace.counts(&running)?;
    running.stop()?;
    alpes.verify()?;
    let per_conversion = |count: u64| count as f64 / CONVERSIONS as f64;
    // The second server's counters and its log start at zero.
    let counts = [
        after.statements - before.statements,
        after.syncs - before.syncs,
        after.wal_bytes - before.wal_bytes,
        reacted.statements,
        reacted.syncs,
        reacted.wal_bytes,
    ];
    Ok(counts.map(per_conversion).to_vec())
}

/// Syncs per acknowledged POST. With one connection nothing can share a sync, so 1 or more shows that each reply
/// waited for its own.
pub(super) fn syncs(context: &Context) -> Result<Readings> {
    ensure!(has_strace(), "counting syncs needs strace");
    let alpes = Alpes::fresh(&context.binary, &context.data.join("syncs"))?;
    let trace = Trace::beside(&alpes);
    let running = alpes.serve_with_key(&trace.start(&["--roles", "api"]))?;
    let scene = crate::load::scene::Scene::create(running.control.clone(), 30)?;
    let mut per_request = Vec::new();
    for (number, connections) in [1, super::intake::CONNECTIONS].into_iter().enumerate() {
        let before = trace.counts(&running)?;
        let count = if connections == 1 { 500 } else { 20_000 };
        load(&scene, connections, 1, count).with_context(|| format!("run {number}"))?;
        let syncs = trace.counts(&running)?.syncs - before.syncs;
        per_request.push((connections, count, syncs));
    }
    running.stop()?;
    let ratio = |index: usize| per_request[index].2 as f64 / per_request[index].1 as f64;
    Ok(Readings {
        values: vec![("syncs-one", ratio(0)), ("syncs-many", ratio(1))],
        raw: json!({"connections_requests_syncs": per_request}),
    })
}

fn load(scene: &crate::load::scene::Scene, connections: usize, per_request: u64, count: u64) -> Result<()> {
    let time = Duration::from_secs(300);
    let plan = closed::Plan { address: scene.control.address, connections, warm_up: Duration::ZERO, time };
    let source = format!("load-{connections}");
    let run = closed::run(&plan, Conversions::new(scene, &source, per_request, 0, count))?;
    all_accepted(&run.meter)?;
    ensure!(run.traffic.accepted == count, "{} of {count} conversions were accepted", run.traffic.accepted);
    Ok(())
}

fn has_strace() -> bool {
    let output = Command::new("strace").arg("-V").output();
    output.is_ok_and(|output| output.status.success()) && Path::new("/proc/self/stat").exists()
}

#[cfg(test)]
mod tests {
    use super::read_log;

    #[test]
    fn a_strace_log_gives_successful_syncs_and_bytes_of_the_log_only() {
        let log = "\
11 pwrite64(5</d/alpes.db-wal>, \"\"..., 24, 0) = 24
11 pwrite64(5</d/alpes.db-wal>, \"\"..., 4096, 24 <unfinished ...>
12 pwrite64(4</d/alpes.db>, \"\"..., 4096, 0) = 4096
11 <... pwrite64 resumed>) = 4096
11 fdatasync(5</d/alpes.db-wal>) = 0
11 fdatasync(5</d/alpes.db-wal> <unfinished ...>
12 fsync(4</d/alpes.db>) = -1 EIO (Input/output error) (INJECTED)
11 <... fdatasync resumed>) = 0
";
        assert_eq!(read_log(log), (2, 4_120));
    }
}
