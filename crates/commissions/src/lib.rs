//! Commissions: what is earned, held, approved and corrected. Conversions' decisions come in as events; terms, budgets and
//! partners' states as published tables; amounts go out as events and ledger entries. It must not know how a conversion is
//! attributed, how a payout is paid, or any web request.

mod book;
mod check;
mod commission;
mod end_holds;
mod explanation;
mod journal;
mod lifecycle;
mod model;
mod problems;
mod react;
mod react_to_partners;
mod react_to_payouts;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod views;

use platform::Migration;

pub use check::check;
pub use end_holds::end_holds;
pub use explanation::{
    CalculationView, EntryView, ExplanationView, InputsView, RefundsView, StepView, TermsView, TransitionView,
    explanation,
};
pub use lifecycle::{approve_many, change};
pub use model::{CommissionAction, Skip};
pub use problems::PROBLEMS;
pub use react::consumer;
pub use views::{CommissionFilter, CommissionView, live_of};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] =
    &[Migration::new(40, "commissions", include_str!("../migrations/0040_commissions.sql"))];
