//! `cargo x docs`: the pages that the program writes about itself, and the check that they are up to date.
//!
//! The contents come from `alpes docs --out DIR`; nothing here knows what they say.

use crate::process::{cargo, must_run, root};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Exactly the files that `alpes docs` writes.
const GENERATED: [&str; 5] = ["events.md", "problems.md", "config.md", "openapi.json", "asyncapi.yaml"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Change nothing: fail when a page differs from what the code says
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let root = root()?;
    if !arguments.check {
        generate(&root, &root.join("docs"))?;
        println!("written: {}", GENERATED.map(|name| format!("docs/{name}")).join(", "));
        return Ok(());
    }
    let stale = stale(&root)?;
    ensure!(stale.is_empty(), "out of date (run `cargo x docs`):\n  {}", stale.join("\n  "));
    println!("the {} generated pages are up to date", GENERATED.len());
    Ok(())
}

/// A line for each page that differs from what the code would write now.
pub(crate) fn stale(root: &Path) -> Result<Vec<String>> {
    let fresh = root.join("target/docs");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh)?;
    }
    generate(root, &fresh)?;
    differences(&fresh, &root.join("docs"))
}

/// Builds the program with the profile that the tests use, so that CI compiles it once.
pub(crate) fn alpes(root: &Path) -> Result<PathBuf> {
    let build = cargo(root, ["build", "--quiet", "--workspace", "--bin", "alpes", "--profile", "ci"]);
    must_run("building alpes", "it does not compile", build)?;
    Ok(root.join("target/ci/alpes"))
}

fn generate(root: &Path, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = Command::new(alpes(root)?);
    command.args(["docs", "--out"]).arg(folder).current_dir(root);
    must_run("alpes docs", "failed", command)
}

fn differences(fresh: &Path, kept: &Path) -> Result<Vec<String>> {
    let mut stale = Vec::new();
    for name in GENERATED {
        let expected =
            std::fs::read_to_string(fresh.join(name)).with_context(|| format!("`alpes docs` did not write {name}"))?;
        match std::fs::read_to_string(kept.join(name)) {
            Err(_) => stale.push(format!("docs/{name}: is missing")),
            Ok(found) if found != expected => {
                stale.push(format!("docs/{name}:{}", first_difference(&found, &expected)))
            }
            Ok(_) => {}
        }
    }
    Ok(stale)
}

/// The first line that differs, in the words of somebody who has to find it.
fn first_difference(found: &str, expected: &str) -> String {
    let mut pairs = found.lines().zip(expected.lines()).zip(1..);
    match pairs.find(|((found, expected), _)| found != expected) {
        Some(((found, expected), line)) => format!("{line}: says `{found}`, the code says `{expected}`"),
        None => {
            format!("{}: the code says {} lines", found.lines().count(), expected.lines().count())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, openapi: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("alpes-xtask-docs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for page in GENERATED {
            std::fs::write(folder.join(page), if page == "openapi.json" { openapi } else { "one\ntwo\n" }).unwrap();
        }
        folder
    }

    #[test]
    fn equal_pages_are_up_to_date_and_a_changed_or_missing_page_is_named_with_its_line() {
        let (fresh, kept) = (folder("fresh", "{}\n"), folder("kept", "{}\n"));
        assert_eq!(differences(&fresh, &kept).unwrap(), Vec::<String>::new());
        std::fs::write(kept.join("events.md"), "one\n2\n").unwrap();
        std::fs::write(kept.join("config.md"), "one\n").unwrap();
        std::fs::remove_file(kept.join("problems.md")).unwrap();
        let stale = differences(&fresh, &kept).unwrap();
        assert_eq!(
            stale,
            [
                "docs/events.md:2: says `2`, the code says `two`",
                "docs/problems.md: is missing",
                "docs/config.md:1: the code says 2 lines",
            ]
        );
        std::fs::remove_file(fresh.join("openapi.json")).unwrap();
        assert!(differences(&fresh, &kept).is_err(), "a page that is not written is not up to date");
        std::fs::remove_dir_all(fresh).unwrap();
        std::fs::remove_dir_all(kept).unwrap();
    }
}
