//! What tidy looks at: the repository's files and its crates.

use super::source::Source;
use crate::process::{Show, cargo, run};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::path::Path;
use std::process::Command;

pub(crate) struct Repository {
    /// Every text file.
    pub(crate) files: Vec<File>,
    pub(crate) packages: Vec<Package>,
}

pub(crate) struct File {
    /// From the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The tokens of a Rust file.
    pub(crate) source: Option<Source>,
}

/// One of our crates, as `cargo metadata` tells it.
#[derive(Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Set for a crate of this workspace.
    pub(crate) path: Option<String>,
}

impl Repository {
    pub(crate) fn load(root: &Path) -> Result<Repository> {
        #[derive(Deserialize)]
        struct Metadata {
            packages: Vec<Package>,
        }
        let metadata = run(cargo(root, ["metadata", "--no-deps", "--format-version", "1", "--quiet"]), Show::Nothing)?;
        ensure!(metadata.success, "cargo metadata failed: {}", metadata.text);
        let Metadata { packages } = serde_json::from_str(&metadata.text).context("cargo metadata is not JSON")?;
        let mut files = Vec::new();
        for path in listed(root)? {
            let bytes = std::fs::read(root.join(&path)).with_context(|| format!("{path} cannot be read"))?;
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File::new(path, text)?);
            }
        }
        Ok(Repository { files, packages })
    }

    /// The crates' own Rust files, with the crate's name: `crates/<name>/…`.
    pub(crate) fn sources(&self) -> impl Iterator<Item = (&File, &str, &Source)> {
        self.files.iter().filter_map(|file| Some((file, file.owner()?, file.source.as_ref()?)))
    }
}

impl File {
    pub(crate) fn new(path: String, text: String) -> Result<File> {
        let source = match path.ends_with(".rs") {
            true => Some(Source::read(&text).with_context(|| path.clone())?),
            false => None,
        };
        Ok(File { path, text, source })
    }

    /// The crate it belongs to.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|(name, _)| name)
    }

    /// The path inside the crate.
    pub(crate) fn inside(&self) -> &str {
        self.path.strip_prefix("crates/").and_then(|rest| rest.split_once('/')).map_or("", |(_, inside)| inside)
    }
}

/// Every file that git knows or would add, so that a file is tidy before it is committed. Those that somebody has
/// just deleted are left out.
pub(crate) fn listed(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
    let listing = run(git, Show::Nothing)?;
    ensure!(listing.success, "git ls-files failed: {}", listing.text);
    let mut paths: Vec<String> = listing.text.split_terminator('\0').map(str::to_owned).collect();
    paths.retain(|path| root.join(path).is_file());
    paths.sort();
    paths.dedup();
    Ok(paths)
}

#[cfg(test)]
impl Repository {
    /// A repository of these files, for planting violations.
    pub(crate) fn planted(files: &[(&str, &str)]) -> Repository {
        let file = |(path, text): &(&str, &str)| File::new((*path).into(), (*text).into()).unwrap();
        Repository { files: files.iter().map(file).collect(), packages: Vec::new() }
    }

    /// The same with crates: each a name and what it depends on; `./x` is a crate of the workspace.
    pub(crate) fn with_packages(mut self, packages: &[(&str, &[&str])]) -> Repository {
        let dependency = |name: &&str| match name.strip_prefix("./") {
            Some(own) => Dependency { name: own.into(), path: Some(own.into()) },
            None => Dependency { name: (*name).into(), path: None },
        };
        let package = |(name, edges): &(&str, &[&str])| Package {
            name: (*name).into(),
            dependencies: edges.iter().map(dependency).collect(),
        };
        self.packages = packages.iter().map(package).collect();
        self
    }
}
