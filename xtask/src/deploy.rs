//! What `deploy/` offers, read by the libraries that its users' tools are made of: the compose file by Docker Compose's
//! loader, the chart by Helm's linter and template engine, each object strictly by the types of the Kubernetes API. And
//! the connectors' settings beside the table that they read.
//!
//! Needs Go, and neither an engine nor a cluster. It says that the files are right, not that the product runs with them.

use crate::process::{Show, must_run, run, tool};
use crate::test::Tally;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub(crate) fn readable(root: &Path) -> Result<Tally> {
    let go = tool(root, "go").context("the step needs it, so it was looked for before")?;
    let program = root.join("target/deploy-check/deploycheck");
    let go = |arguments: &[&str]| {
        let mut command = Command::new(&go);
        command.args(arguments).current_dir(root.join("tools/deploy-check"));
        // exactly what go.sum names, with the Go that is here
        command.env("GOFLAGS", "-mod=readonly -buildvcs=false").env("GOTOOLCHAIN", "local");
        command
    };
    let mut build = go(&["build", "-o"]);
    build.arg(&program).arg(".");
    must_run("building the check", "it does not compile", build)?;
    // not from its cache, which does not see changes of deploy/
    ensure!(run(go(&["test", "-count=1", "./..."]), Show::Live)?.success, "the check does not find what was planted");
    let mut check = Command::new(&program);
    check.arg(root.join("deploy"));
    ensure!(run(check, Show::Live)?.success, "deploy/ is not right");
    connectors(root)?;
    Ok(Tally { passed: 3, failed: 0 })
}

/// Every column of the event log leaves the house by each connector, and no other is named.
fn connectors(root: &Path) -> Result<()> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| path.to_owned());
    let table = columns(&read("crates/platform/migrations/0001_platform.sql")?, "outbox_event");
    for path in ["deploy/debezium/postgres.yaml", "deploy/debezium/mysql.yaml"] {
        let named = routed(&read(path)?);
        ensure!(!table.is_empty() && named == table, "{path} routes {named:?}, the table has {table:?}");
        println!("ok    {path}: {} columns", named.len());
    }
    Ok(())
}

/// The columns of a table in a migration, one on each line.
fn columns(migration: &str, table: &str) -> BTreeSet<String> {
    let start = format!("CREATE TABLE {table} (");
    let body = migration.split_once(&start).and_then(|(_, rest)| rest.split_once("\n)")).map_or("", |(body, _)| body);
    body.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// The columns that the outbox router puts into a message: the payload, and what it is told to add.
fn routed(settings: &str) -> BTreeSet<String> {
    let value = |name: &str| {
        let line =
            settings.lines().find_map(|line| line.trim().strip_prefix("transforms.outbox.table.")?.strip_prefix(name));
        line.map_or("", |value| value.trim_start_matches(": ").trim_matches('"'))
    };
    let added = value("fields.additional.placement").split(',').map(|part| part.trim_end_matches(":envelope"));
    added.chain([value("field.event.payload")]).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read_from_both_sides() {
        let migration =
            "CREATE TABLE a (\n  x {int}\n);\nCREATE TABLE log (\n    id  {id} NOT NULL,\n    doc {text}\n);\n";
        let settings = "configs:\n  transforms.outbox.table.field.event.payload: doc\n  \
                        transforms.outbox.table.fields.additional.placement: \"id:envelope\"\n";
        assert_eq!(columns(migration, "log"), routed(settings));
        assert_eq!(columns(migration, "log").into_iter().collect::<Vec<_>>(), ["doc", "id"]);
        assert!(columns(migration, "absent").is_empty());
        assert_ne!(columns(migration, "log"), routed(&settings.replace("id:", "key:")));
    }
}
