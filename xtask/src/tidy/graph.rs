//! Who may name whom. A crate exists to forbid a dependency or to be a bounded context, so an edge too many takes the
//! reason away.

use super::{Report, repository::Repository};
use anyhow::Result;

const CONTEXTS: [&str; 10] = [
    "partners",
    "campaigns",
    "conversions",
    "commissions",
    "payments",
    "reports",
    "contracts",
    "compliance",
    "notifications",
    "processes",
];

/// From the bottom to the top: each crate of a layer may name the crates of the layers that are listed for it, and no
/// neighbour of its own.
const LAYERS: [(&[&str], &[&str]); 8] = [
    (&["kernel"], &[]),
    (&["events"], &["kernel"]),
    (&["platform"], &["kernel"]),
    (&["ledger"], &["kernel", "events", "platform"]),
    (&CONTEXTS, &["kernel", "events", "platform", "ledger"]),
    (&["cdc", "log-pulsar"], &["kernel", "events", "platform"]),
    (&["web", "compat"], &["kernel", "events", "platform", "ledger", "a context"]),
    (&["server"], &["kernel", "events", "platform", "ledger", "a context", "cdc", "log-pulsar", "web", "compat"]),
];

/// Other people's crates that only some of ours may name.
const RESERVED: [(&[&str], &[&str], &str); 5] = [
    // xtask: the bench's bare loop, the limit that the product is measured against
    (&["rusqlite", "sqlx"], &["platform", "cdc", "xtask"], "the façade hides the database"),
    (
        &["postgres", "postgres-protocol", "mysql"],
        &["platform", "cdc"],
        "the façade hides the database; cdc reads its log of changes",
    ),
    (
        &["axum", "utoipa-axum", "tower-http", "utoipa-swagger-ui"],
        &["web", "compat", "server"],
        "HTTP stays at the edge",
    ),
    (&["pulsar"], &["log-pulsar"], "the broker is one adapter"),
    (
        &["tokio"],
        &["web", "compat", "server", "cdc", "log-pulsar", "xtask"],
        "the domain is synchronous: loops live in server",
    ),
];

pub(super) fn is_context(name: &str) -> bool {
    CONTEXTS.contains(&name)
}

pub(super) fn check(repository: &Repository) -> Result<Report> {
    let mut broken = Vec::new();
    let mut edges = 0;
    for package in &repository.packages {
        let name = package.name.as_str();
        let layer = LAYERS.iter().find(|(crates, _)| crates.contains(&name));
        if layer.is_none() && name != "xtask" {
            broken.push(format!("{name}: has no place in the house: give it one in xtask/src/tidy/graph.rs"));
        }
        let below: &[&str] = layer.map_or(&[], |(_, below)| below);
        for dependency in &package.dependencies {
            edges += 1;
            let other = dependency.name.as_str();
            let role = if is_context(other) { "a context" } else { other };
            if dependency.path.is_some() && !below.contains(&role) {
                broken.push(format!("{name} → {other}: {name} may name only [{}]", below.join(", ")));
            }
            for (reserved, holders, reason) in RESERVED {
                if reserved.contains(&other) && !holders.contains(&name) {
                    broken.push(format!("{name} → {other}: only {} may name it: {reason}", holders.join(", ")));
                }
            }
        }
    }
    Ok(Report {
        rule: "each crate names only the crates below it",
        looked_at: format!("{} crates, {edges} edges", repository.packages.len()),
        broken,
        notes: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(packages: &[(&str, &[&str])]) -> Vec<String> {
        check(&Repository::planted(&[]).with_packages(packages)).unwrap().broken
    }

    #[test]
    fn the_house_as_it_should_be_is_accepted() {
        let house: [(&str, &[&str]); 7] = [
            ("kernel", &["serde"]),
            ("platform", &["./kernel", "rusqlite"]),
            ("ledger", &["./kernel", "./platform"]),
            ("payments", &["./kernel", "./events", "./platform", "./ledger"]),
            ("web", &["./payments", "./reports", "axum", "tokio"]),
            ("server", &["./web", "./payments", "axum"]),
            ("xtask", &["tokio"]),
        ];
        assert_eq!(broken(&house), Vec::<String>::new());
    }

    #[test]
    fn every_edge_too_many_is_found() {
        let planted: [(&str, &[&str]); 10] = [
            ("kernel", &["./events"]),
            ("platform", &["./events"]),
            ("ledger", &["./payments"]),
            ("payments", &["./commissions"]),
            ("commissions", &["rusqlite"]),
            ("reports", &["axum"]),
            ("web", &["rusqlite"]),
            ("server", &["pulsar"]),
            ("server", &["postgres-protocol"]),
            ("xtask", &["./kernel"]),
        ];
        for edge in planted {
            assert_eq!(broken(&[edge]).len(), 1, "{edge:?}");
        }
        assert_eq!(broken(&[("shared", &[])]).len(), 1, "a crate without a place");
    }
}
