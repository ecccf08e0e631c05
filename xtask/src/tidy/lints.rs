//! Every crate takes the workspace's lints, and they forbid unsafe code.

use super::{Report, repository::Repository};
use anyhow::{Context, Result};

pub(super) fn check(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let mut manifests = 0;
    for file in repository.files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        manifests += 1;
        let manifest: toml::Table = toml::from_str(&file.text).with_context(|| file.path.clone())?;
        let at = |keys: &[&str]| {
            let first = manifest.get(keys[0]);
            keys[1..].iter().fold(first, |value, key| value?.get(key))
        };
        let path = &file.path;
        if path == "Cargo.toml" {
            if at(&["workspace", "lints", "rust", "unsafe_code"]).and_then(toml::Value::as_str) != Some("forbid") {
                broken.push(format!("{path}: the workspace's lints must say unsafe_code = \"forbid\""));
            }
        } else if at(&["lints", "workspace"]).and_then(toml::Value::as_bool) != Some(true) {
            broken.push(format!("{path}: must say [lints] workspace = true"));
        }
    }
    Ok(Report {
        rule: "every crate takes the workspace's lints, which forbid unsafe",
        looked_at: format!("{manifests} manifests"),
        broken,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> usize {
        check(&Repository::planted(&[(path, text)])).unwrap().broken.len()
    }

    #[test]
    fn a_crate_without_the_lints_and_a_workspace_that_permits_unsafe_are_found() {
        assert_eq!(broken("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"forbid\""), 0);
        assert_eq!(broken("Cargo.toml", "[workspace.lints.rust]\nunsafe_code = \"deny\""), 1);
        assert_eq!(broken("Cargo.toml", "[workspace]"), 1);
        assert_eq!(broken("crates/a/Cargo.toml", "[lints]\nworkspace = true"), 0);
        assert_eq!(broken("crates/a/Cargo.toml", "[lints.rust]\nunsafe_code = \"forbid\""), 1);
        assert_eq!(broken("crates/a/Cargo.toml", "[package]"), 1);
    }
}
