//! Where a service's data lies, who owns it, and which ports are free.
//!
//! A database server refuses to run as root; started by root, it runs as the user that its package made, and that user
//! must be able to reach its data.

use anyhow::{Context as _, Result, ensure};
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Ports are taken from below those that the system gives to outgoing connections: another program's connection must not
/// take one between the choice and the service's start.
const PORTS: std::ops::Range<u16> = 15_000..32_000;

/// Marks a directory as one of ours, which may be removed with all that is in it.
const MARK: &str = "throw-away";

pub(super) struct Place {
    /// The service's directory: its record, its log and, where its user can reach it, its data.
    pub(super) home: PathBuf,
    pub(super) log: PathBuf,
}

impl Place {
    /// An empty one; whatever was there is removed.
    pub(super) fn fresh(base: &Path, name: &str) -> Result<Self> {
        Self::remove(base, name)?;
        let place = Self::of(base, name);
        std::fs::create_dir_all(&place.home).with_context(|| format!("creating {}", place.home.display()))?;
        File::create(place.home.join(MARK))?;
        Ok(place)
    }

    pub(super) fn of(base: &Path, name: &str) -> Self {
        let home = base.join(name);
        Self { log: home.join("log"), home }
    }

    /// Removes all that a service wrote, wherever it lies.
    ///
    /// # Errors
    /// When it did not write it: a wrong ALPES_SERVICES_DIR must not cost anybody a database.
    pub(super) fn remove(base: &Path, name: &str) -> Result<()> {
        let home = base.join(name);
        let is_ours = home.join(MARK).is_file() || std::fs::remove_dir(&home).is_ok() || !home.exists();
        ensure!(is_ours, "{} is not a directory that cargo x services made", home.display());
        // The mark goes last: whoever is stopped in the middle can be followed by somebody who ends it.
        let data = home.join("data");
        for folder in [elsewhere(base, name), data, home] {
            if folder.exists() {
                std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
            }
        }
        Ok(())
    }

    /// An empty data directory that `user` owns and can reach: here, or else in the system's temporary directory.
    pub(super) fn data(&self, base: &Path, name: &str, user: Option<User>) -> Result<PathBuf> {
        let reachable = match user {
            None => true,
            Some(user) => {
                let mut test = Command::new("test");
                test.arg("-x").arg(&self.home).stderr(Stdio::null());
                user.runs(&mut test);
                test.status().is_ok_and(|status| status.success())
            }
        };
        let data = if reachable { self.home.join("data") } else { elsewhere(base, name) };
        std::fs::DirBuilder::new().mode(0o700).create(&data).with_context(|| format!("creating {}", data.display()))?;
        if let Some(user) = user {
            chown(&data, Some(user.id), Some(user.group)).with_context(|| format!("giving {} away", data.display()))?;
        }
        Ok(data)
    }

    pub(super) fn log_file(&self) -> Result<File> {
        Ok(File::options().create(true).append(true).open(&self.log)?)
    }

    /// Runs a program that prepares the service; what it says goes to the service's log.
    pub(super) fn run(&self, mut command: Command) -> Result<()> {
        let name = command.get_program().to_string_lossy().into_owned();
        command.stdout(self.log_file()?).stderr(self.log_file()?);
        let status = command.status().with_context(|| format!("{name} cannot be started"))?;
        ensure!(status.success(), "{name} ended with {status}:\n{}", tail(&self.log, 20));
        Ok(())
    }
}

/// The place of data whose user cannot enter the work tree; always the same, so that it is found again after a crash.
fn elsewhere(base: &Path, name: &str) -> PathBuf {
    let tree = base.to_string_lossy().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    std::env::temp_dir().join(format!("alpes-services{tree}-{name}"))
}

/// Somebody whom a process can be given to.
#[derive(Clone, Copy)]
pub(super) struct User {
    id: u32,
    group: u32,
}

impl User {
    /// Who runs a service: the user that its package made when we are root, else ourselves.
    pub(super) fn instead_of_root(name: &str) -> Result<Option<Self>> {
        if number(&["-u"])? != 0 {
            return Ok(None);
        }
        Ok(Some(Self { id: number(&["-u", name])?, group: number(&["-g", name])? }))
    }

    /// Lets a command run as this user, with no further groups.
    pub(super) fn runs(self, command: &mut Command) {
        command.uid(self.id).gid(self.group);
    }
}

fn number(arguments: &[&str]) -> Result<u32> {
    let output = Command::new("id").args(arguments).output().context("id cannot be started")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().with_context(|| format!("id {} knows no such user", arguments.join(" ")))
}

/// Ports that nobody listens on, all different.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let ports = u32::from(PORTS.end - PORTS.start);
    // Two task runners start to look at different places.
    let first = std::process::id().wrapping_mul(37) % ports;
    let candidates = (0..ports).map(|step| PORTS.start + u16::try_from((first + step) % ports).expect("below u16"));
    let mut held: Vec<(u16, TcpListener)> = Vec::new();
    for port in candidates {
        if held.len() == N {
            break;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
    }
    let found: Vec<u16> = held.iter().map(|(port, _)| *port).collect();
    found.try_into().ok().context("no free port")
}

/// Lets one task runner at a time start and stop services of a work tree.
pub(super) fn lock(base: &Path) -> Result<File> {
    std::fs::create_dir_all(base).with_context(|| format!("creating {}", base.display()))?;
    let file = File::options().create(true).append(true).open(base.join("lock"))?;
    file.lock().context("waiting for another cargo x services")?;
    Ok(file)
}

/// The last lines of a log.
pub(super) fn tail(file: &Path, lines: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_different_and_below_the_systems_own() {
        let mut ports = free_ports::<5>().unwrap();
        assert!(ports.iter().all(|port| PORTS.contains(port)));
        ports.sort_unstable();
        assert!(ports.windows(2).all(|pair| pair[0] < pair[1]), "{ports:?}");
    }

    #[test]
    fn work_trees_have_different_places_elsewhere() {
        let [one, two] = ["/a/one", "/a/two"].map(|base| elsewhere(Path::new(base), "postgres"));
        assert_ne!(one, two);
        assert_eq!(one.parent(), Some(std::env::temp_dir().as_path()));
    }

    #[test]
    fn a_directory_of_somebody_else_is_not_removed() {
        let base = std::env::temp_dir().join(format!("alpes-place-{}", std::process::id()));
        let foreign = base.join("postgres");
        std::fs::create_dir_all(foreign.join("data")).unwrap();
        assert!(Place::remove(&base, "postgres").is_err());
        assert!(Place::fresh(&base, "postgres").is_err());
        assert!(foreign.join("data").is_dir());

        let ours = Place::fresh(&base, "pulsar").unwrap().home;
        std::fs::create_dir(ours.join("data")).unwrap();
        assert!(Place::fresh(&base, "pulsar").is_ok() && !ours.join("data").exists());
        Place::remove(&base, "pulsar").unwrap();
        assert!(!ours.exists());
        std::fs::remove_dir_all(&base).unwrap();
    }

    #[test]
    fn a_tail_is_the_end_and_no_log_has_an_empty_one() {
        let file = std::env::temp_dir().join(format!("alpes-tail-{}", std::process::id()));
        std::fs::write(&file, "a\nb\nc\n").unwrap();
        assert_eq!(tail(&file, 2), "b\nc");
        std::fs::remove_file(&file).unwrap();
        assert_eq!(tail(&file, 2), "");
    }
}
