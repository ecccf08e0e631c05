//! Persistence and messaging: the SQL façade, the event store with its consumers, parking, dead letters, published
//! tables, idempotency keys, the inbox, bridges, the seal. It must not know a business word: contexts bring their tables and
//! meanings.
//!
//! Everything here is synchronous (ADR 0002): a transaction runs on the thread that asks for it. Loops, sleeping and
//! threads live in the server.

pub mod bridge;
#[cfg(any(test, feature = "testing"))]
pub mod conformance;
mod connection;
pub mod consumer;
pub mod copy;
mod db;
pub mod dead_letters;
mod dialect;
pub mod event_log;
#[cfg(any(test, feature = "testing"))]
mod for_test;
pub mod idempotency;
pub mod inbox;
mod json_lines;
pub mod lease;
mod location;
pub mod migrations;
mod page;
pub mod parking;
pub mod published;
mod relay;
pub mod seal;
mod sink;
mod sql;
#[cfg(test)]
mod testing;
mod tls;
mod tx;

pub use connection::REFUSED as DATABASE_REFUSED;
pub use consumer::{Consumer, Runner, Step};
pub use db::{Db, DbOptions, Hook, Lane, Stats, Turn};
pub use json_lines::JsonLines;
pub use location::{Endpoint, Location};
pub use migrations::Migration;
pub use page::{Listing, Page, Paged};
pub use relay::{Polling, Relay, Source};
pub use sink::Sink;
pub use sql::{OnDuplicate, Reader, Row, Value};
pub use tls::{Tls, refusal as tls_refusal};
pub use tx::Tx;

/// What one check of `verify` found.
#[derive(Debug, Clone)]
pub struct Check {
    /// What was checked, in words.
    pub name: &'static str,
    /// How many things were looked at.
    pub checked: i64,
    /// The first differences, in words; none when all is well.
    pub differences: Vec<String>,
}

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[
    Migration::new(1, "platform", include_str!("../migrations/0001_platform.sql")),
    Migration::new(3, "platform", include_str!("../migrations/0003_inbox.sql")),
];

/// This crate's entries of the catalogue of problems.
pub fn problems() -> Vec<&'static kernel::Problem> {
    [
        db::PROBLEMS,
        connection::PROBLEMS,
        location::PROBLEMS,
        lease::PROBLEMS,
        copy::PROBLEMS,
        idempotency::PROBLEMS,
        dead_letters::PROBLEMS,
    ]
    .concat()
}
