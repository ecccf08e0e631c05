//! Reports: the summary of commissions, built from events and rebuildable to equal content, and a partner's statement
//! from the ledger. It must not know how amounts come about, nor write anything that others read as truth.

mod check;
mod model;
mod project;
mod statement;
mod summary;
#[cfg(test)]
mod testing;

use platform::Migration;

pub use check::check;
pub use project::{CONSUMER, consumer, content_digest, rebuild};
pub use statement::{StatementBalance, StatementLine, StatementView, statement};
pub use summary::{GroupBy, StateSummary, SummaryFilter, SummaryRow, summary};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration::new(60, "reports", include_str!("../migrations/0060_reports.sql"))];
