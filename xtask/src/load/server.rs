//! The product as a process: started, watched through `/proc`, stopped and killed like by an operator.

use super::control::Control;
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A built binary, and its database: a data directory, or a server.
#[derive(Clone, Debug)]
pub(crate) struct Alpes {
    pub(crate) binary: PathBuf,
    pub(crate) data: PathBuf,
    /// The URL of a server database; none for the file in the data directory.
    pub(crate) database: Option<String>,
    /// What the processes say.
    pub(crate) log: PathBuf,
}

/// How to start it beyond the defaults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    /// Further arguments of `serve`.
    pub(crate) arguments: Vec<String>,
    /// Where it listens; a free port when none is given.
    pub(crate) port: Option<u16>,
    pub(crate) environment: Vec<(String, String)>,
    /// A program with its arguments that runs the server, such as strace; it must become the server's parent
    /// nowhere, so that the process that is started is the server itself.
    pub(crate) wrapper: Vec<String>,
}

impl Start {
    /// With further arguments of `serve`.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self { arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(), ..Self::default() }
    }
}

impl Alpes {
    /// The binary in a fresh data directory, with its log beside it.
    ///
    /// # Errors
    /// When the directory cannot be emptied.
    pub(crate) fn fresh(binary: &Path, data: &Path) -> Result<Self> {
        if data.exists() {
            std::fs::remove_dir_all(data).with_context(|| format!("emptying {}", data.display()))?;
        }
        std::fs::create_dir_all(data)?;
        Ok(Self { binary: binary.to_owned(), data: data.to_owned(), database: None, log: data.with_extension("log") })
    }

    /// Runs a subcommand with `--data` and `--json` and returns its exit status and its JSON.
    ///
    /// # Errors
    /// When it cannot be started or its output is no JSON.
    pub(crate) fn command(&self, arguments: &[&str]) -> Result<(ExitStatus, Value)> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--json").stderr(self.log()?);
        self.locate(&mut command);
        let output = command.output().with_context(|| format!("running {}", self.binary.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let json = serde_json::from_str(&text).with_context(|| {
            format!("alpes {arguments:?} ended with {} and printed {text:?}; see {}", output.status, self.log.display())
        })?;
        Ok((output.status, json))
    }

    /// Creates a key with every scope.
    ///
    /// # Errors
    /// When the command fails.
    pub(crate) fn create_key(&self) -> Result<String> {
        let (_, json) = self.command(&["keys", "create", "--name", "bench", "--scopes", "*"])?;
        Ok(json["key"].as_str().with_context(|| format!("keys create printed no key: {json}"))?.to_owned())
    }

    /// Runs `verify`.
    ///
    /// # Errors
    /// When it finds differences.
    pub(crate) fn verify(&self) -> Result<()> {
        let (status, json) = self.command(&["verify"])?;
        ensure!(status.success(), "verify found differences: {json:#}");
        Ok(())
    }

    /// Starts `serve` without waiting for it; its requests carry `key`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub(crate) fn spawn(&self, start: &Start, key: &str) -> Result<Running> {
        let port = start.port.map_or_else(free_port, Ok)?;
        let mut command = match start.wrapper.split_first() {
            None => Command::new(&self.binary),
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(&self.binary);
                command
            }
        };
        command.args(["serve", "--port", &port.to_string()]).args(&start.arguments);
        self.locate(&mut command);
        command.envs(start.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(self.log()?).stderr(self.log()?);
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {}", self.binary.display()))?;
        let control = Control { address: super::loopback(port), key: key.to_owned() };
        Ok(Running { child, control, started, ready_after: Duration::ZERO })
    }

    /// Starts `serve` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within 60 s.
    pub(crate) fn serve(&self, start: &Start, key: &str) -> Result<Running> {
        let mut running = self.spawn(start, key)?;
        if let Some(status) = running.wait_until_ready().with_context(|| format!("see {}", self.log.display()))? {
            bail!("the server ended with {status} before it was ready; see {}", self.log.display());
        }
        Ok(running)
    }

    /// A key and a running server that takes it.
    ///
    /// # Errors
    /// As `create_key` and `serve`.
    pub(crate) fn serve_with_key(&self, start: &Start) -> Result<Running> {
        self.serve(start, &self.create_key()?)
    }

    /// Bytes of the data directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn size(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in std::fs::read_dir(&self.data)? {
            bytes += entry?.metadata()?.len();
        }
        Ok(bytes)
    }

    fn locate(&self, command: &mut Command) {
        command.arg("--data").arg(&self.data);
        if let Some(database) = &self.database {
            command.env("ALPES_DATABASE", database);
        }
    }

    fn log(&self) -> Result<File> {
        Ok(File::options().create(true).append(true).open(&self.log)?)
    }
}

/// A server that runs; it is killed when dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) control: Control,
    started: Instant,
    /// From the start of the process to the first 200 of `/health/ready`.
    pub(crate) ready_after: Duration,
}

impl Running {
    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit status, when the process has ended.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the first 200 of `/health/ready`; the exit status when the process ends instead.
    ///
    /// # Errors
    /// When it is not ready after 60 s.
    pub(crate) fn wait_until_ready(&mut self) -> Result<Option<ExitStatus>> {
        loop {
            if self.control.send("GET", "/health/ready", "", b"").is_ok_and(|answer| answer.status == 200) {
                self.ready_after = self.started.elapsed();
                return Ok(None);
            }
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            ensure!(self.started.elapsed() < Duration::from_secs(60), "the server is not ready after 60 s");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// `kill -9`.
    ///
    /// # Errors
    /// When the process cannot be waited for.
    pub(crate) fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGTERM; the server has 10 s to drain, and some to end.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub(crate) fn stop(mut self) -> Result<()> {
        signal("TERM", self.pid())?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(15) {
            if let Some(status) = self.child.try_wait()? {
                ensure!(status.success(), "the server ended with {status} after SIGTERM");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("the server still runs 15 s after SIGTERM")
    }

    /// A field of `/proc/<pid>/status` in kB, such as `VmRSS`.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn memory_kb(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no {field} of process {}", self.pid()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; there is nobody to tell.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Sends a signal, as `kill` does.
///
/// # Errors
/// When there is no such process.
pub(crate) fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill").args([format!("-{name}"), pid.to_string()]).status()?;
    ensure!(status.success(), "kill -{name} {pid} failed");
    Ok(())
}

/// A port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(super::loopback(0))?.local_addr()?.port())
}
