//! `model/` is pure: rules that can be read, tested and simulated without a database, a runtime or a clock.

use super::source::{Kind, Source};
use super::{Report, repository::File, repository::Repository};
use anyhow::Result;

/// `utoipa` only describes a type; it does nothing.
const MAY_NAME: [&str; 7] = ["kernel", "events", "serde", "serde_json", "thiserror", "sha2", "utoipa"];
const MAY_NAME_IN_TESTS: [&str; 1] = ["proptest"];
/// The parts of std that reach out of the program.
const EFFECTS: [&str; 8] = ["env", "fs", "io", "net", "os", "process", "sync", "thread"];

pub(super) fn check(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let mut files = 0;
    for (file, owner, source) in repository.sources() {
        let Some(depth) = depth_below_model(file) else { continue };
        files += 1;
        let outside = outside_crates(repository, owner);
        for (line, what) in impurities(source, depth, &outside) {
            broken.push(format!("{}:{line}: {what}", file.path));
        }
    }
    Ok(Report {
        rule: "model/ is pure: no platform, no async, no way out",
        looked_at: format!("{files} files"),
        broken,
        notes: Vec::new(),
    })
}

/// How many `super` lead from the file's top to the module `model`; nothing for a file outside of it.
fn depth_below_model(file: &File) -> Option<usize> {
    let inside = file.inside();
    if inside == "src/model.rs" {
        return Some(0);
    }
    let below = inside.strip_prefix("src/model/")?;
    let folders = below.matches('/').count();
    Some(if below.ends_with("mod.rs") { folders } else { folders + 1 })
}

/// The names under which other crates can be called from this one, as far as they are not welcome.
fn outside_crates(repository: &Repository, owner: &str) -> Vec<String> {
    let packages = repository.packages.iter().filter(|package| package.name == owner);
    let names = packages.flat_map(|package| package.dependencies.iter().map(|d| d.name.replace('-', "_")));
    names.filter(|name| !MAY_NAME.contains(&name.as_str())).collect()
}

fn impurities(source: &Source, depth_of_file: usize, outside: &[String]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    // The inline modules that are open here, each with the index of its closing bracket.
    let mut modules: Vec<usize> = Vec::new();
    for (at, token) in source.tokens.iter().enumerate() {
        modules.retain(|end| *end > at);
        let Kind::Word(word) = &token.kind else { continue };
        if word == "mod" && source.reads(at + 2, &["{"]) {
            modules.push(source.closing(at + 2));
        }
        let mut complain = |what: String| found.push((token.line, what));
        if word == "async" || word == "await" {
            complain(format!("`{word}`: decisions do not wait"));
        }
        if !begins_a_path(source, at) {
            continue;
        }
        let welcome_here = token.in_test && MAY_NAME_IN_TESTS.contains(&word.as_str());
        let next = if source.reads(at + 1, &[":", ":"]) { at + 3 } else { at };
        match word.as_str() {
            "std" | "core" | "alloc" => effects(source, next).for_each(|effect| complain(format!("std::{effect}"))),
            "crate" if source.word(next) != Some("model") => {
                complain(format!("crate::{}: outside of model/", source.word(next).unwrap_or("{…}")));
            }
            "super" if supers(source, at) > depth_of_file + modules.len() => {
                complain("super:: leads out of model/".into());
            }
            _ if outside.contains(word) && !welcome_here => complain(format!("names {word}")),
            _ => {}
        }
    }
    found
}

/// `word::…` not preceded by `::`, or `use word`.
fn begins_a_path(source: &Source, at: usize) -> bool {
    let preceded = at >= 2 && source.reads(at - 2, &[":", ":"]) && !(at >= 3 && source.reads(at - 3, &["use"]));
    !preceded && (source.reads(at + 1, &[":", ":"]) || (at >= 1 && source.reads(at - 1, &["use"])))
}

fn supers(source: &Source, mut at: usize) -> usize {
    let mut count = 0;
    while source.reads(at, &["super"]) {
        count += 1;
        at += 3;
    }
    count
}

/// The effects in `std::fs::…` or `std::{collections::X, fs}`.
fn effects(source: &Source, at: usize) -> impl Iterator<Item = &str> {
    let end = if source.reads(at, &["{"]) { source.closing(at) } else { at + 1 };
    let first_of_each =
        move |index: &usize| *index == at || source.reads(*index - 1, &["{"]) || source.reads(*index - 1, &[","]);
    (at..end).filter(first_of_each).filter_map(|index| source.word(index)).filter(|word| EFFECTS.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, text: &str) -> Vec<String> {
        let repository = Repository::planted(&[(path, text)]);
        let depends: &[&str] =
            &["./kernel", "./events", "./platform", "serde", "sha2", "tracing", "utoipa-axum", "proptest"];
        check(&repository.with_packages(&[("payments", depends)])).unwrap().broken
    }

    const FILE: &str = "crates/payments/src/model/batch.rs";

    #[test]
    fn a_pure_model_is_accepted() {
        let text = "
            use super::item::Item; use crate::model::Batch; use std::{collections::BTreeMap, fmt};
            use kernel::{Money, Fault};
            fn a() { serde_json::to_string(&1); std::mem::take(&mut x); platform(); let platform = 1; }
            mod inner { use super::super::item::Other; }
            #[cfg(test)] mod tests { use super::*; use proptest::prelude::*; }";
        assert_eq!(broken(FILE, text), Vec::<String>::new());
    }

    #[test]
    fn every_way_out_is_found() {
        let planted = [
            "use platform::Tx;",
            "fn a(tx: &mut platform::Tx) {}",
            "use ::platform::Tx;",
            "async fn a() {}",
            "fn a() { b().await }",
            "use std::fs;",
            "use std::{collections::BTreeMap, net::IpAddr};",
            "fn a() { std::env::var(\"X\"); }",
            "use crate::views::list;",
            "use crate::{views, model};",
            "use super::super::views;",
            "mod inner { use super::super::super::views; }",
            "fn a() { tracing::info!(\"x\"); }",
            "use utoipa_axum::router;",
            "use proptest::prelude::*;",
            "#[cfg(test)] mod tests { use platform::Db; }",
            "use platform as kernel;",
        ];
        for text in planted {
            assert_eq!(broken(FILE, text).len(), 1, "{text}: {:?}", broken(FILE, text));
        }
        assert_eq!(broken("crates/payments/src/model.rs", "use super::views;").len(), 1);
        assert_eq!(broken("crates/payments/src/model/a/mod.rs", "use super::super::views;").len(), 1);
        assert_eq!(broken("crates/payments/src/views.rs", "use platform::Tx;").len(), 0, "not a model");
    }
}
