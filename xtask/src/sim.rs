//! `cargo x sim`: starts the simulation, and proves with planted bugs that it can fail.
//!
//! The simulation itself is `crates/server/tests/it/sim`. What is agreed with it: it reads `ALPES_SIM_SEEDS` and
//! `ALPES_SIM_FIRST`, and a failure says `invariant` or `mismatch`, so that a bug which was found can be told from a
//! test which merely broke.

use crate::process::{Outcome, Show, cargo, root, run as start};
use crate::test::{Tally, cargo_tests, tally};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

const PATCHES: &str = "crates/server/tests/it/sim/planted";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many worlds to run, each from its own seed
    #[arg(long, default_value_t = 500)]
    seeds: u64,
    /// The first seed; the others follow it
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Instead: apply each bug of crates/server/tests/it/sim/planted to a copy; the simulation must find every one
    #[arg(long)]
    planted: bool,
    /// Only the first N planted bugs, by file name
    #[arg(long, value_name = "N", requires = "planted")]
    only: Option<usize>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    let seeds = Seeds { count: arguments.seeds, first: arguments.first };
    let tally = match arguments.planted {
        true => planted(&root, seeds, arguments.only)?,
        false => seeded(&root, seeds)?,
    };
    ensure!(tally.failed == 0, "{} failed", tally.failed);
    Ok(())
}

/// Which worlds to run.
#[derive(Clone, Copy)]
pub(crate) struct Seeds {
    pub(crate) count: u64,
    pub(crate) first: u64,
}

/// Runs the simulation on the tree as it stands.
pub(crate) fn seeded(root: &Path, seeds: Seeds) -> Result<Tally> {
    cargo_tests(simulation(root, seeds, "--nocapture")).context("the simulation of tests/it/sim")
}

/// `--workspace` although only `server` has the test: the dependencies' features are then those of `cargo x test`, and
/// nothing is compiled twice.
fn simulation(folder: &Path, seeds: Seeds, flag: &str) -> Command {
    let mut command = cargo(folder, ["test", "--profile", "ci", "--workspace", "--test", "it", "sim::", "--", flag]);
    command.env("ALPES_SIM_SEEDS", seeds.count.to_string()).env("ALPES_SIM_FIRST", seeds.first.to_string());
    command
}

/// What the simulation did with a planted bug.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// Found, with the line that says so.
    Caught(String),
    Missed,
    /// The patch proves nothing: it does not apply, does not compile, or breaks the test in another way.
    Unusable(String),
}

/// Applies each patch to one copy of the tree and asks the simulation. One copy and one target folder for all of them:
/// cargo tells changed files by their time, and restoring a file renews it, so that only changed crates are built.
pub(crate) fn planted(root: &Path, seeds: Seeds, only: Option<usize>) -> Result<Tally> {
    let patches = patches(root, only)?;
    let copy = copy_of_the_tree(root)?;
    println!("without a bug");
    let clean = ask(&copy, seeds)?;
    ensure!(clean == Verdict::Missed, "the simulation fails without any planted bug: {clean:?}");
    let mut tally = Tally::default();
    let mut table = Vec::new();
    for patch in patches {
        let name = patch.file_stem().expect("it was listed by its extension").to_string_lossy().into_owned();
        println!("{name}");
        let verdict = plant(root, &copy, &patch, seeds)?;
        match &verdict {
            Verdict::Caught(words) => table.push(format!("  caught    {name:40} {words}")),
            Verdict::Missed => table.push(format!("  MISSED    {name}")),
            Verdict::Unusable(words) => table.push(format!("  UNUSABLE  {name:40} {words}")),
        }
        let found = u32::from(matches!(verdict, Verdict::Caught(_)));
        tally.passed += found;
        tally.failed += 1 - found;
    }
    println!("\nplanted bugs\n{}\n{} caught, {} not", table.join("\n"), tally.passed, tally.failed);
    Ok(tally)
}

fn patches(root: &Path, only: Option<usize>) -> Result<Vec<PathBuf>> {
    let folder = root.join(PATCHES);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("{PATCHES} cannot be read"))?;
    let mut patches = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    patches.retain(|path| path.extension().is_some_and(|extension| extension == "patch"));
    patches.sort();
    patches.truncate(only.unwrap_or(usize::MAX));
    ensure!(!patches.is_empty(), "{PATCHES} holds no patch");
    Ok(patches)
}

/// Brings `target/planted/tree` to what the work tree holds, leaving equal files untouched.
fn copy_of_the_tree(root: &Path) -> Result<PathBuf> {
    let copy = root.join("target/planted/tree");
    let wanted = crate::tidy::repository::listed(root)?;
    for path in files_below(&copy)? {
        if !wanted.contains(&path.strip_prefix(&copy)?.to_string_lossy().into_owned()) {
            std::fs::remove_file(path)?;
        }
    }
    for path in &wanted {
        restore(root, &copy, path)?;
    }
    Ok(copy)
}

fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { files.extend(files_below(&path)?) } else { files.push(path) }
        }
    }
    Ok(files)
}

/// Makes the copy's file what the work tree's is; equal files keep their time.
fn restore(root: &Path, copy: &Path, path: &str) -> Result<()> {
    let (source, destination) = (root.join(path), copy.join(path));
    if !source.exists() {
        std::fs::remove_file(&destination).or_else(|fault| match fault.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(fault),
        })?;
        return Ok(());
    }
    let contents = std::fs::read(&source).with_context(|| format!("{path} cannot be read"))?;
    if std::fs::read(&destination).is_ok_and(|there| there == contents) {
        return Ok(());
    }
    std::fs::create_dir_all(destination.parent().expect("a file has a folder"))?;
    std::fs::write(&destination, contents)?;
    Ok(())
}

fn plant(root: &Path, copy: &Path, patch: &Path, seeds: Seeds) -> Result<Verdict> {
    let touched = start(git_apply(copy, patch, "--numstat"), Show::Nothing)?;
    let applied = start(git_apply(copy, patch, "--whitespace=nowarn"), Show::Nothing)?;
    let verdict = match applied.success {
        true => ask(copy, seeds),
        false => Ok(Verdict::Unusable(format!("does not apply: {}", one_line(&applied.text)))),
    };
    for path in touched.text.lines().filter_map(|line| line.split('\t').nth(2)) {
        restore(root, copy, path)?;
    }
    verdict
}

/// Outside of any repository as git sees it: inside one, it would silently skip files that the repository ignores.
fn git_apply(copy: &Path, patch: &Path, flag: &str) -> Command {
    let mut git = Command::new("git");
    git.args(["apply", flag]).arg(patch).current_dir(copy);
    git.env("GIT_CEILING_DIRECTORIES", copy.parent().expect("it lies under target/planted"));
    git
}

fn ask(copy: &Path, seeds: Seeds) -> Result<Verdict> {
    let target = copy.with_file_name("target");
    let mut build = simulation(copy, seeds, "--list");
    build.env("CARGO_TARGET_DIR", &target);
    let build = start(build, Show::Nothing)?;
    if !build.success {
        let fault = build.text.lines().find(|line| line.starts_with("error")).unwrap_or("no reason given");
        return Ok(Verdict::Unusable(format!("does not compile: {fault}")));
    }
    let mut command = simulation(copy, seeds, "--nocapture");
    command.env("CARGO_TARGET_DIR", &target);
    Ok(judge(&start(command, Show::Nothing)?))
}

/// A failure counts as found only when a test failed and says which promise is broken.
fn judge(outcome: &Outcome) -> Verdict {
    let counted = tally(&outcome.text);
    let proof = outcome.text.lines().find(|line| !line.starts_with("test ") && names_a_broken_promise(line));
    match (outcome.success, counted, proof) {
        (_, Tally { passed: 0, failed: 0 }, _) => {
            Verdict::Unusable(format!("no test ran: {}", last_line(&outcome.text)))
        }
        (true, _, _) => Verdict::Missed,
        (false, Tally { failed: 1.., .. }, Some(line)) => Verdict::Caught(one_line(line)),
        (false, _, _) => Verdict::Unusable(format!("broke, but by no invariant: {}", first_panic(&outcome.text))),
    }
}

/// As a word of its own: `currency_mismatch` is a reason in the domain.
fn names_a_broken_promise(line: &str) -> bool {
    let line = line.to_lowercase();
    let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.any(|word| ["invariant", "invariants", "mismatch", "mismatches"].contains(&word))
}

/// What the first panic says, on the line below the one that says where.
fn first_panic(text: &str) -> String {
    let said = text.lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    said.map_or_else(|| last_line(text), one_line)
}

fn last_line(text: &str) -> String {
    one_line(text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or(""))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(110).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(success: bool, text: &str) -> Outcome {
        Outcome { success, text: text.into() }
    }

    #[test]
    fn a_bug_is_caught_only_when_a_test_fails_and_names_the_broken_promise() {
        let failed = "test result: FAILED. 1 passed; 1 failed; 0 ignored";
        let passed = "test sim::invariants_hold ... ok\ntest result: ok. 2 passed; 0 failed; 0 ignored";
        let named = format!("seed 7: mismatch of partner 3's balance\n{failed}");
        assert_eq!(judge(&outcome(false, &named)), Verdict::Caught("seed 7: mismatch of partner 3's balance".into()));
        assert_eq!(judge(&outcome(true, passed)), Verdict::Missed);
        let broken =
            format!("test sim::invariants_hold ... FAILED\nthread panicked at a.rs:\nindex out of bounds\n{failed}");
        let domain = format!("left: Rejected(\"currency_mismatch\")\n{failed}");
        assert!(matches!(judge(&outcome(false, &domain)), Verdict::Unusable(_)), "a word of the domain is no proof");
        let words = "broke, but by no invariant: index out of bounds".to_owned();
        assert_eq!(judge(&outcome(false, &broken)), Verdict::Unusable(words));
        assert!(matches!(judge(&outcome(false, "error[E0308]: mismatched types")), Verdict::Unusable(_)));
        let none = "test result: ok. 0 passed; 0 failed; 0 ignored; 40 filtered out";
        assert!(matches!(judge(&outcome(true, none)), Verdict::Unusable(_)), "no test is no proof");
    }

    #[test]
    fn restoring_writes_what_differs_removes_what_is_new_and_leaves_equal_files_alone() {
        let base = std::env::temp_dir().join(format!("alpes-xtask-sim-{}", std::process::id()));
        let (root, copy) = (base.join("root"), base.join("copy"));
        for (folder, name, text) in [(&root, "a", "1"), (&copy, "a", "bug"), (&copy, "new", "x"), (&root, "same", "s")]
        {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }
        std::fs::write(copy.join("same"), "s").unwrap();
        let before = std::fs::metadata(copy.join("same")).unwrap().modified().unwrap();
        for name in ["a", "new", "same"] {
            restore(&root, &copy, name).unwrap();
        }
        assert_eq!(std::fs::read_to_string(copy.join("a")).unwrap(), "1");
        assert!(!copy.join("new").exists());
        assert_eq!(std::fs::metadata(copy.join("same")).unwrap().modified().unwrap(), before);
        assert_eq!(files_below(&copy).unwrap().len(), 2);
        std::fs::remove_dir_all(base).unwrap();
    }
}
