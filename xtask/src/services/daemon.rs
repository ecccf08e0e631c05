//! A service as a process that outlives the task runner: spawned, found again by its record, ended.
//!
//! Process ids are reused, so a record also holds when its process began, in which run of the machine. Nothing is
//! signalled that does not agree with all three.

use super::{Place, Prepared};
use crate::load::server::signal;
use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const RECORD: &str = "running.json";
/// How long a service may take to end by itself.
const FAREWELL: Duration = Duration::from_secs(15);

/// What is known of a running service.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) pid: u32,
    /// When the process began, in clock ticks since the machine started.
    began: u64,
    /// The machine's run.
    boot: String,
    pub(super) port: u16,
    pub(super) admin_port: Option<u16>,
    /// Empty until it answers.
    pub(super) version: String,
    /// How to start it again over the same data, after a fault that a test has made.
    call: Call,
}

/// A program's call.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize)]
struct Call {
    /// The program, then its arguments.
    words: Vec<String>,
    environment: Vec<(String, String)>,
    folder: Option<PathBuf>,
    user: u32,
    group: u32,
}

impl Call {
    fn of(command: &Command, pid: u32) -> Result<Self> {
        let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        let owner = std::fs::metadata(format!("/proc/{pid}"))?;
        Ok(Self {
            words: std::iter::once(command.get_program()).chain(command.get_args()).map(text).collect(),
            environment: command.get_envs().filter_map(|(name, value)| Some((text(name), text(value?)))).collect(),
            folder: command.get_current_dir().map(Path::to_owned),
            user: owner.uid(),
            group: owner.gid(),
        })
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        // Only root may become another, and only root needs to.
        if std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
            command.uid(self.user).gid(self.group);
        }
        command
    }
}

impl Record {
    /// Starts a service and notes it before anything can go wrong.
    pub(super) fn spawn(base: &Path, name: &str, prepared: Prepared) -> Result<Self> {
        let Prepared { command, port, admin_port } = prepared;
        Self::spawn_at(base, name, command, port, admin_port)
    }

    fn spawn_at(base: &Path, name: &str, mut command: Command, port: u16, admin_port: Option<u16>) -> Result<Self> {
        let place = Place::of(base, name);
        // its own group: an interrupt at the terminal is meant for the task runner
        command.stdin(Stdio::null()).stdout(place.log_file()?).stderr(place.log_file()?).process_group(0);
        let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        let pid = child.id();
        let process = Process::read(pid).with_context(|| format!("{name} ended at once"))?;
        let call = Call::of(&command, pid)?;
        let record = Self { pid, began: process.began, boot: boot(), port, admin_port, version: String::new(), call };
        record.write(base, name)?;
        // Asked how it ended as soon as it has: a database does not start while the process in its lock file has a trace.
        std::thread::spawn(move || child.wait());
        Ok(record)
    }

    pub(super) fn write(&self, base: &Path, name: &str) -> Result<()> {
        let file = Place::of(base, name).home.join(RECORD);
        std::fs::write(&file, self.to_text()).with_context(|| format!("writing {}", file.display()))
    }

    /// The record of a service, if its process lives.
    pub(super) fn alive(base: &Path, name: &str) -> Option<Self> {
        let text = std::fs::read_to_string(Place::of(base, name).home.join(RECORD)).ok()?;
        Self::from_text(&text).filter(Self::is_alive)
    }

    pub(super) fn is_alive(&self) -> bool {
        self.boot == boot() && Process::read(self.pid).is_some_and(|process| self.is(&process))
    }

    /// The record of a service, whether it runs or not.
    pub(super) fn read(base: &Path, name: &str) -> Option<Self> {
        Self::from_text(&std::fs::read_to_string(Place::of(base, name).home.join(RECORD)).ok()?)
    }

    /// Starts it again over its data, after [`Self::kill`].
    pub(super) fn spawn_again(&self, base: &Path, name: &str) -> Result<Self> {
        Self::spawn_at(base, name, self.call.command(), self.port, self.admin_port)
    }

    /// Ends it and all that it started at once, as a power cut would.
    pub(super) fn kill(&self) -> Result<()> {
        self.signal_all("KILL")?;
        let is_gone = || !self.is_alive() && Process::read(self.pid).is_none_or(|process| process.began != self.began);
        anyhow::ensure!(within(FAREWELL, is_gone), "process {} is still there after SIGKILL", self.pid);
        Ok(())
    }

    /// Sends a signal to the service and all that it started. Not to its process group: a database's sessions are each
    /// in one of their own.
    pub(super) fn signal_all(&self, name: &str) -> Result<()> {
        anyhow::ensure!(self.is_alive(), "it does not run");
        // Nobody starts anything any more, and so nobody is overlooked.
        signal("STOP", self.pid)?;
        let family = self.family();
        if name != "STOP" {
            signal(name, self.pid)?;
        }
        // What ends between the look and the signal is no failure.
        let below = family.into_iter().skip(1).map(|pid| pid.to_string());
        Command::new("kill").arg(format!("-{name}")).args(below).stderr(Stdio::null()).status()?;
        Ok(())
    }

    /// Ends it: asks, waits, and kills it when it does not go.
    pub(super) fn stop(&self, farewell: &str) -> Result<&'static str> {
        if !self.is_alive() {
            return Ok("had ended");
        }
        signal(farewell, self.pid)?;
        if self.is_gone_within(FAREWELL) {
            return Ok("stopped");
        }
        signal("KILL", self.pid)?;
        if self.is_gone_within(FAREWELL) {
            return Ok("was killed");
        }
        bail!("process {} is still there after SIGKILL", self.pid)
    }

    fn is_gone_within(&self, limit: Duration) -> bool {
        within(limit, || !self.is_alive())
    }

    /// Resident memory of the process and all below it; a page that several share counts once.
    pub(super) fn memory_kb(&self) -> u64 {
        self.family().into_iter().filter_map(proportional_kb).sum()
    }

    /// The process and all below it.
    fn family(&self) -> Vec<u32> {
        let processes: Vec<Process> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .filter_map(|entry| Process::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
            .collect();
        let mut family = vec![self.pid];
        let mut next = 0;
        while let Some(parent) = family.get(next).copied() {
            family.extend(processes.iter().filter(|process| process.parent == parent).map(|process| process.pid));
            next += 1;
        }
        family
    }

    fn is(&self, process: &Process) -> bool {
        !process.ended && process.began == self.began
    }

    fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("numbers and text are always JSON")
    }

    fn from_text(text: &str) -> Option<Self> {
        // one that a crash left half written is no record
        serde_json::from_str(text).ok()
    }
}

/// A line of `/proc/<pid>/stat`.
#[derive(PartialEq, Debug)]
struct Process {
    pid: u32,
    parent: u32,
    /// It has ended, and its parent has not asked how.
    ended: bool,
    began: u64,
}

impl Process {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state parent … began …`; the name may hold blanks and parentheses.
    fn parse(text: &str) -> Option<Self> {
        let (pid, rest) = text.split_once(" (")?;
        let fields: Vec<&str> = rest.rsplit_once(") ")?.1.split(' ').collect();
        Some(Self {
            pid: pid.parse().ok()?,
            ended: matches!(*fields.first()?, "Z" | "X"),
            parent: fields.get(1)?.parse().ok()?,
            began: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Waits until something is so.
fn within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while !is_so() {
        if began.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn proportional_kb(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_back_and_half_of_one_is_none() {
        let record = Record {
            pid: 7,
            began: 9,
            boot: "b".into(),
            port: 5,
            admin_port: Some(6),
            version: "4".into(),
            call: Call::default(),
        };
        let text = record.to_text();
        assert_eq!(Record::from_text(&text), Some(record));
        assert_eq!(Record::from_text(&text[..text.len() / 2]), None);
        assert_eq!(Record::from_text(""), None);
    }

    #[test]
    fn a_process_is_read_whatever_its_name_is() {
        let line = |name: &str, state: &str| {
            format!("41 ({name}) {state} 40 41 41 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 8123 2600000 200 1844 1 1 0\n")
        };
        let process = Process { pid: 41, parent: 40, ended: false, began: 8123 };
        assert_eq!(Process::parse(&line("postgres", "S")), Some(process));
        assert_eq!(Process::parse(&line("a) b (c", "S")).map(|process| process.began), Some(8123));
        assert!(Process::parse(&line("java", "Z")).is_some_and(|process| process.ended));
        assert_eq!(Process::parse("41 (cut"), None);
    }

    #[test]
    fn a_process_with_the_same_id_that_began_at_another_time_is_somebody_else() {
        let pid = std::process::id();
        let own = Process::read(pid).unwrap();
        let record = Record { pid, began: own.began, boot: boot(), ..Record::default() };
        assert!(record.is_alive());
        assert!(!Record { began: own.began + 1, ..record.clone() }.is_alive());
        assert!(!Record { boot: "another run".into(), ..record.clone() }.is_alive());
        assert_eq!(Record { began: own.began + 1, ..record }.stop("TERM").unwrap(), "had ended");
    }
}
