//! Double entry (rules section 8): set-based posting, balances at any known time, the trial balance. Below the contexts,
//! because commissions and payments post in their own transactions. It knows accounts and kinds of entries; it must not
//! know how an amount came about.

mod balance;
mod entry;
mod roll_up;
#[cfg(test)]
mod tests;
mod views;

use platform::Migration;

pub use balance::{Balance, PartnerBalance, Totals, balances, totals};
pub use entry::{Account, Entry, EntryKind, post};
pub use roll_up::{ROLL_UP_ENTRIES, roll_up};
pub use views::{AccountLine, PostedEntry, check, entries, entries_at, trial_balance};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration::new(2, "ledger", include_str!("../migrations/0002_ledger.sql"))];
