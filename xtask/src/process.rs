//! Starting other programs: where the repository is, how to call cargo, how to show and keep what a program says.

use anyhow::{Context, Result, ensure};
use std::io::{BufRead, BufReader, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root: the nearest folder upwards that holds this task runner.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("the current folder cannot be read")?;
    let found = here.ancestors().find(|folder| folder.join("xtask/Cargo.toml").is_file());
    Ok(found.context("not inside the repository: no xtask/Cargo.toml here or above")?.to_path_buf())
}

/// A cargo call in `folder`.
pub(crate) fn cargo<const N: usize>(folder: &Path, arguments: [&str; N]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(folder);
    command
}

/// Where a tool is: what `.ci/run` installed under `target/tools` first, then `PATH`.
pub(crate) fn tool(root: &Path, name: &str) -> Option<PathBuf> {
    let own = ["target/tools/bin", "target/tools/venv/bin"].map(|folder| root.join(folder));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// How a program ended and everything it said, both streams in the order of arrival.
pub(crate) struct Outcome {
    pub(crate) success: bool,
    pub(crate) text: String,
}

/// Whether the program's words are shown while it runs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Show {
    Live,
    Nothing,
}

/// Runs a program to its end.
///
/// # Errors
/// Only when it cannot be started; a program that fails is an [`Outcome`].
pub(crate) fn run(mut command: Command, show: Show) -> Result<Outcome> {
    let name = command.get_program().to_string_lossy().into_owned();
    let (reader, writer) = pipe()?;
    command.stdin(std::process::Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
    drop(command); // holds the pipe's other end: without this the reader below would wait for ever
    let mut reader = BufReader::new(reader);
    let (mut line, mut text) = (Vec::new(), String::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        let part = String::from_utf8_lossy(&line);
        if show == Show::Live {
            print!("{part}");
            std::io::stdout().flush()?;
        }
        text.push_str(&part);
        line.clear();
    }
    Ok(Outcome { success: child.wait()?.success(), text })
}

/// Runs a program that must succeed, saying what it is for and showing what it says.
pub(crate) fn must_run(what: &str, otherwise: &str, command: Command) -> Result<()> {
    println!("{what}");
    ensure!(run(command, Show::Live)?.success, "{what}: {otherwise}");
    Ok(())
}
