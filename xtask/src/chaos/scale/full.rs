//! `cargo x chaos --scale --disk`: the disk of the database is full for a while. The database lies on a small file system
//! of its own for that, in memory, with all that it syncs.

use super::World;
use super::faults::Fault;
use crate::chaos::disk::Tmpfs;
use anyhow::{Context as _, Result, ensure};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Names the small file system to the task runner that works on it.
const DISK: &str = "ALPES_CHAOS_DISK";
/// Room for an empty database and some seconds of load.
const SIZE: &str = "320m";
const FULL_FOR: Duration = Duration::from_secs(6);

/// Makes the file system and runs the fault there, in a process whose services are there too.
///
/// # Errors
/// When anything is lost, doubled, or refused in another way than agreed; under `CI` also without root.
pub(super) fn run(root: &Path, binary: &Path, place: &Path, args: &crate::chaos::Args) -> Result<()> {
    if let Some(disk) = std::env::var_os(DISK) {
        let outcome = on(&PathBuf::from(disk), root, binary, place, args);
        crate::services::end(root)?;
        return outcome;
    }
    let disk = match Tmpfs::mount(&std::env::temp_dir().join(format!("alpes-disk-{}", std::process::id())), SIZE) {
        Ok(disk) => disk,
        Err(error) => {
            println!("NOT RUN: a full disk of the database (a tmpfs cannot be mounted: needs root): {error:#}");
            ensure!(std::env::var_os("CI").is_none(), "not run, and CI is set");
            return Ok(());
        }
    };
    let mut again = Command::new(std::env::current_exe()?);
    again.args(std::env::args_os().skip(1)).current_dir(root);
    again.env(DISK, &disk.path).env("ALPES_SERVICES_DIR", disk.path.join("services"));
    crate::process::must_run("the database on a small disk", "failed", again)
}

fn on(disk: &Path, root: &Path, binary: &Path, place: &Path, args: &crate::chaos::Args) -> Result<()> {
    let mut world = World::create(root, binary, &place.join("full"), args.seed, false)?;
    world.cluster.disk = Some(disk.to_owned());
    println!("{}", super::Line::HEADINGS);
    let line;
    (world, line) = world.round(Fault::FullDisk(FULL_FOR), super::RATE)?;
    println!("{line}");
    let count = world.finish()?;
    crate::chaos::report("things that were not as they should be", &line.wrong)?;
    println!("{count} acknowledged facts: none lost, none doubled; commissions to the cent; verify finds nothing");
    Ok(())
}

/// Takes all the room that is left.
pub(super) fn fill(disk: &Path) -> Result<PathBuf> {
    let ballast = disk.join("ballast");
    let mut file = std::fs::File::create(&ballast)?;
    for size in [1 << 20, 4_096] {
        let block = vec![7; size];
        while file.write_all(&block).is_ok() {}
    }
    ensure!(file.metadata()?.len() > 0, "{} was full before", disk.display());
    Ok(ballast)
}

/// Gives the room back.
pub(super) fn empty(ballast: &Path) -> Result<()> {
    std::fs::remove_file(ballast).with_context(|| format!("removing {}", ballast.display()))
}
