//! Disks that fail: a sync that returns an error, and no space left.

use super::client::Client;
use super::seen::Seen;
use super::{ARGUMENTS, report, settle, start};
use crate::load::control::Control;
use crate::load::server::{Alpes, Running, Start};
use crate::load::{Run, open};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

/// How often it is read while writes fail.
const READ_EVERY: Duration = Duration::from_millis(50);

/// Runs both faults; one whose tool or privilege is absent is named, and an error under `CI`.
pub(super) fn run(binary: &Path, place: &Path, seed: u64) -> Result<()> {
    let mut absent = Vec::new();
    match Command::new("strace").arg("-V").output() {
        Ok(output) if output.status.success() => failing_sync(binary, place, seed).context("a failing sync")?,
        _ => absent.push("a failing sync (strace is absent)"),
    }
    match Tmpfs::mount(&place.join("full"), "24m") {
        Ok(disk) => full_disk(binary, place, &disk, seed).context("a full disk")?,
        Err(error) => {
            println!("{error:#}");
            absent.push("a full disk (a tmpfs cannot be mounted: needs root)");
        }
    }
    absent.iter().for_each(|what| println!("NOT RUN: {what}"));
    ensure!(absent.is_empty() || std::env::var_os("CI").is_none(), "not run, and CI is set: {}", absent.join(", "));
    Ok(())
}

/// From some moment on every sync of the server fails: nothing that was sent later may be acknowledged.
fn failing_sync(binary: &Path, place: &Path, seed: u64) -> Result<()> {
    let alpes = Alpes::fresh(binary, &place.join("eio"))?;
    let (running, client) = start(&alpes, place, seed)?;
    let key = running.control.key.clone();
    let log = place.join("eio.strace");
    let (clock, wall) = (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?);
    let fault = fail_syncs_after(Duration::from_secs(1), running.pid(), log.clone());
    let reads = Reads::start(running.control.clone());
    let Run { traffic: client, .. } = open::run(&plan(&running, 500, 4), client)?;
    let reads = reads.stop()?;
    let mut strace = fault.join().map_err(|_| anyhow::anyhow!("starting strace panicked"))??;
    let first_failure = first_failure(&std::fs::read_to_string(&log)?).context("strace made no sync fail")?;
    let failed_at = clock + first_failure.saturating_sub(wall);
    let last_sent = client.last_acknowledged_sent.context("nothing was acknowledged before the fault")?;
    ensure!(last_sent < failed_at, "a request sent {:?} after the failed sync was acknowledged", last_sent - failed_at);
    refusals_are_clean(&client)?;
    reads_went_on(&reads, failed_at)?;
    // Whether it can stop in good order without a disk is its own matter; what counts is the restart.
    let stopped = running.stop().map_or_else(|error| format!("{error:#}"), |()| "in good order".to_owned());
    strace.wait()?;
    let count = restart(&alpes, &key, client)?;
    println!("failing sync: no acknowledgement after it, stopped {stopped}; {count} acknowledged facts are there");
    Ok(())
}

/// Attaches strace after a while; from then on every sync of the process fails.
fn fail_syncs_after(wait: Duration, pid: u32, log: PathBuf) -> std::thread::JoinHandle<Result<Child>> {
    std::thread::spawn(move || {
        std::thread::sleep(wait);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-ttt", "-e", "trace=fdatasync,fsync", "-e", "inject=fdatasync,fsync:error=EIO"]);
        strace.arg("-o").arg(log).args(["-p", &pid.to_string()]);
        strace.spawn().context("starting strace")
    })
}

/// When the first sync failed, since 1970.
fn first_failure(log: &str) -> Option<Duration> {
    let line = log.lines().find(|line| line.contains("EIO"))?;
    let (seconds, fraction) = line.split_whitespace().nth(1)?.split_once('.')?;
    Some(Duration::new(seconds.parse().ok()?, fraction.parse::<u32>().ok()? * 1_000))
}

/// A small file system fills up under load, and is then made larger.
fn full_disk(binary: &Path, place: &Path, disk: &Tmpfs, seed: u64) -> Result<()> {
    let data = disk.path.join("data");
    let alpes = Alpes { log: place.join("full.log"), ..Alpes::fresh(binary, &data)? };
    let (running, mut client) = start(&alpes, place, seed)?;
    let key = running.control.key.clone();
    client.enough_refusals = 300;
    let reads = Reads::start(running.control.clone());
    let Run { mut traffic, meter } = open::run(&plan(&running, 2_000, 60), client)?;
    let ended = Instant::now();
    let reads = reads.stop()?;
    ensure!(!traffic.refusals.is_empty(), "the disk did not fill up: {}", meter.summary());
    refusals_are_clean(&traffic)?;
    reads_went_on(&reads, ended - Duration::from_millis(500))?;
    disk.resize("512m")?;
    traffic.enough_refusals = u64::MAX;
    // A draft campaign: no comparison counts those.
    let terms = json!({"components": [{"type": "flat", "amount_minor": 1}]});
    let campaign = json!({"name": "Late", "currency": "USD", "starts_at": "2026-01-01T00:00:00Z", "terms": terms});
    let again = running.control.post("/v1/campaigns", &campaign);
    let again = if again.is_ok() { "writes go on by themselves" } else { "writes wait for a restart" };
    running.stop().context("after space was freed")?;
    let count = restart(&alpes, &key, traffic)?;
    println!("full disk: refused cleanly, {again} once there is space; {count} acknowledged facts are there");
    Ok(())
}

/// Restarts without the fault, compares, repeats what has no answer, lets the reactions finish and verifies.
fn restart(alpes: &Alpes, key: &str, mut client: Client) -> Result<usize> {
    let running = alpes.serve(&Start::with(&ARGUMENTS), key)?;
    client.reach(running.control.clone());
    let mut seen = Seen::default();
    seen.pull(&running.control)?;
    report("lost or doubled after the restart", &seen.missing(&client.journal.acknowledged()?))?;
    client.repeat_unknown()?;
    let count = settle(&client, &running.control)?;
    running.stop()?;
    alpes.verify()?;
    Ok(count)
}

fn plan(running: &Running, rate: u64, seconds: u64) -> open::Plan {
    open::Plan {
        address: running.control.address,
        connections: 64,
        rate,
        arrivals: open::Arrivals::Even,
        warm_up: Duration::ZERO,
        time: Duration::from_secs(seconds),
    }
}

/// Refused with 503 or 507 (or 429) as problem+json, and nothing else unexpected.
fn refusals_are_clean(client: &Client) -> Result<()> {
    client.check()?;
    let unclean = |((status, problem), _): &(&(u16, bool), &u64)| !problem || !matches!(status, 429 | 503 | 507);
    let unclean: BTreeMap<_, _> = client.refusals.iter().filter(unclean).collect();
    ensure!(unclean.is_empty(), "refusals by (status, problem+json): {unclean:?}");
    let unavailable = client.refusals.keys().any(|(status, _)| matches!(status, 503 | 507));
    ensure!(unavailable, "no write was refused with 503 or 507: {:?}", client.refusals);
    Ok(())
}

/// Reads that are made all the time, on a thread of their own.
struct Reads {
    stop: mpsc::Sender<()>,
    thread: std::thread::JoinHandle<Vec<(Instant, Result<u16>)>>,
}

impl Reads {
    fn start(control: Control) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let mut reads = Vec::new();
            while stopped.recv_timeout(READ_EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                for path in ["/v1/events?after=0&limit=1", "/v1/conversions?limit=1"] {
                    let answer = control.send("GET", path, "", b"");
                    reads.push((Instant::now(), answer.map(|answer| answer.status)));
                }
            }
            reads
        });
        Self { stop, thread }
    }

    fn stop(self) -> Result<Vec<(Instant, Result<u16>)>> {
        drop(self.stop);
        self.thread.join().map_err(|_| anyhow::anyhow!("reading panicked"))
    }
}

fn reads_went_on(reads: &[(Instant, Result<u16>)], since: Instant) -> Result<()> {
    let after: Vec<_> = reads.iter().filter(|(at, _)| *at >= since).map(|(_, status)| status).collect();
    ensure!(!after.is_empty(), "no read was made while writes failed");
    match after.iter().find(|status| !matches!(status, Ok(200))) {
        None => Ok(()),
        Some(status) => bail!("a read while writes failed ended with {status:?}"),
    }
}

/// A small file system in memory; unmounted when dropped.
pub(super) struct Tmpfs {
    pub(super) path: PathBuf,
}

impl Tmpfs {
    pub(super) fn mount(path: &Path, size: &str) -> Result<Self> {
        std::fs::create_dir_all(path)?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path);
        ensure!(mount.status()?.success(), "mounting a tmpfs at {} failed", path.display());
        Ok(Self { path: path.to_owned() })
    }

    fn resize(&self, size: &str) -> Result<()> {
        let mut mount = Command::new("mount");
        mount.args(["-o", &format!("remount,size={size}")]).arg(&self.path);
        ensure!(mount.status()?.success(), "resizing {} failed", self.path.display());
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A failure leaves a mount behind that the user sees in `mount`; there is nobody to tell here.
        Command::new("umount").arg(&self.path).status().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failed_sync_is_read_from_the_log() {
        let log = "7 1700000000.000001 fdatasync(5) = 0\n\
                   8 1700000001.250000 fdatasync(5) = -1 EIO (Input/output error) (INJECTED)\n";
        assert_eq!(first_failure(log), Some(Duration::from_micros(1_700_000_001_250_000)));
        assert_eq!(first_failure("7 1700000000.000001 fdatasync(5) = 0\n"), None);
    }

    #[test]
    fn a_read_that_fails_while_writes_fail_is_found() {
        let now = Instant::now();
        let earlier = now - Duration::from_secs(1);
        assert!(reads_went_on(&[(earlier, Ok(500)), (now, Ok(200))], now).is_ok());
        assert!(reads_went_on(&[(now, Ok(200)), (now, Ok(503))], now).is_err());
        assert!(reads_went_on(&[(earlier, Ok(200))], now).is_err());
    }
}
