//! Under which conditions something was measured: machine, versions, the disk's syncs, load that is not ours.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use std::fs::{File, read_to_string};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Cores that others may use during a measurement.
const FOREIGN_LOAD_LIMIT: f64 = 0.2;
/// How far the disk probes before and after may differ.
const DISK_DRIFT_LIMIT: f64 = 0.25;
/// Clock ticks per second in `/proc`, fixed by the kernel's interface.
const TICKS: f64 = 100.0;

/// Machine and versions.
pub(super) struct Environment(Value);

impl Environment {
    /// Asks the machine and the tools.
    pub(super) fn now(root: &Path, binary: &Path) -> Result<Self> {
        let field = |file: &str, name: &str| {
            let text = read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
            line.unwrap_or("unknown").trim().to_owned()
        };
        let git = |arguments: &[&str]| output("git", &[&["-C", &root.display().to_string()], arguments].concat());
        Ok(Self(json!({
            "date": output("date", &["-u", "+%FT%TZ"]),
            "commit": git(&["rev-parse", "HEAD"]),
            "uncommitted_changes": !git(&["status", "--porcelain", "--untracked-files=no"]).is_empty(),
            "alpes": output(&binary.display().to_string(), &["--version"]),
            "rustc": output("rustc", &["--version"]),
            "sqlite": rusqlite::version(),
            "kernel": output("uname", &["-sr"]),
            "cpu": field("/proc/cpuinfo", "model name"),
            "cores": std::thread::available_parallelism()?.get(),
            "memory": field("/proc/meminfo", "MemTotal"),
            "file_system": output("df", &["--output=source,fstype", &root.display().to_string()]),
        })))
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> Value {
        self.0.clone()
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().last().unwrap_or_default().to_owned()
}

/// Notes the conditions around one repetition.
pub(super) struct Watch {
    directory: PathBuf,
    timed: bool,
    disk: f64,
    load: String,
    cpu: Cpu,
    start: Instant,
}

/// What a `Watch` saw.
pub(super) struct Conditions {
    timed: bool,
    /// Syncs per second of the disk before and after.
    pub(super) disk: [f64; 2],
    /// `/proc/loadavg` before and after.
    load: [String; 2],
    /// Cores used by others, on average.
    foreign: f64,
    /// Cores taken away by the host, on average.
    steal: f64,
}

impl Watch {
    pub(super) fn start(directory: &Path, timed: bool) -> Result<Self> {
        let disk = probe_disk(directory)?;
        let load = read_to_string("/proc/loadavg")?.trim().to_owned();
        Ok(Self { directory: directory.to_owned(), timed, disk, load, cpu: Cpu::now()?, start: Instant::now() })
    }

    pub(super) fn stop(self) -> Result<Conditions> {
        let (now, elapsed) = (Cpu::now()?, self.start.elapsed().as_secs_f64());
        let cores = |ticks: u64| ticks as f64 / TICKS / elapsed;
        let busy = now.busy - self.cpu.busy;
        let load = read_to_string("/proc/loadavg")?.trim().to_owned();
        Ok(Conditions {
            timed: self.timed,
            disk: [self.disk, probe_disk(&self.directory)?],
            load: [self.load, load],
            foreign: cores(busy.saturating_sub(now.own - self.cpu.own)),
            steal: cores(now.steal - self.cpu.steal),
        })
    }
}

impl Conditions {
    /// Why the repetition does not count, if so.
    pub(super) fn void(&self) -> Option<String> {
        if !self.timed {
            return None;
        }
        let [before, after] = self.disk;
        if (before - after).abs() / before.max(after) > DISK_DRIFT_LIMIT {
            return Some(format!("the disk's syncs went from {before:.0}/s to {after:.0}/s"));
        }
        let foreign = self.foreign + self.steal;
        (foreign > FOREIGN_LOAD_LIMIT).then(|| format!("others used {foreign:.2} cores"))
    }

    pub(super) fn summary(&self) -> String {
        let [before, after] = self.disk;
        let void = self.void().map(|reason| format!(" VOID: {reason}")).unwrap_or_default();
        format!("(disk {before:.0} and {after:.0} syncs/s, others {:.2} cores){void}", self.foreign + self.steal)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "disk_syncs_per_second": self.disk, "loadavg": self.load,
            "foreign_cores": self.foreign, "steal_cores": self.steal, "void": self.void(),
        })
    }
}

/// Ticks since boot.
struct Cpu {
    /// Of all processes and the kernel.
    busy: u64,
    steal: u64,
    /// Of this process and of the children that have ended.
    own: u64,
}

impl Cpu {
    fn now() -> Result<Self> {
        let numbers = |text: &str| text.split_whitespace().map_while(|word| word.parse().ok()).collect::<Vec<u64>>();
        let stat = read_to_string("/proc/stat")?;
        let all = numbers(stat.strip_prefix("cpu ").context("no cpu line in /proc/stat")?);
        // user nice system idle iowait irq softirq steal
        let busy = all.iter().enumerate().filter(|(index, _)| matches!(index, 0 | 1 | 2 | 5 | 6)).map(|(_, n)| n).sum();
        let own = read_to_string("/proc/self/stat")?;
        let after_name = own.rsplit_once(") ").context("no name in /proc/self/stat")?.1;
        // After the state: fields 14 to 17 of the line are utime, stime, cutime, cstime.
        let fields: Vec<u64> = after_name.split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
        Ok(Self { busy, steal: all.get(7).copied().unwrap_or(0), own: fields.iter().sum() })
    }
}

/// Writes and syncs 4 KiB for a second, as a commit does; returns syncs per second.
fn probe_disk(directory: &Path) -> Result<f64> {
    std::fs::create_dir_all(directory)?;
    let path = directory.join("probe");
    let file = File::create(&path)?;
    let start = Instant::now();
    let mut syncs = 0_u32;
    while start.elapsed() < Duration::from_secs(1) {
        file.write_all_at(&[7; 4096], u64::from(syncs % 256) * 4096)?;
        file.sync_data()?;
        syncs += 1;
    }
    let rate = f64::from(syncs) / start.elapsed().as_secs_f64();
    std::fs::remove_file(path)?;
    Ok(rate)
}
