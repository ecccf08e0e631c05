//! Conversions: touches, sales and refunds are taken in as facts, and each conversion is attributed to a partner by
//! numbered decisions. It knows who is credited and why; it must not know what is earned, HTTP, or another context's
//! tables.

mod attribute;
mod check;
mod customer_keys;
mod facts;
mod load;
mod model;
mod prepare;
mod problems;
mod react;
mod record;
mod store;
mod sweep;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
pub mod views;

use platform::Migration;

pub use attribute::Attribute;
pub use check::check;
pub use customer_keys::CustomerKeys;
pub use facts::{Fact, NewConversion, NewRefund, NewTouch};
pub use model::book::UnknownReference;
pub use model::named::{CampaignName, Named, PartnerName};
pub use prepare::{Prepared, prepare};
pub use react::{Settings, consumer};
pub use record::{Receipt, record};
pub use sweep::sweep;
pub use views::{AttributionView, ConversionFilter, ConversionView, DecisionView, ParkedView, RefundView};

/// The name of this context's consumer, in cursors, parked facts and dead letters.
pub(crate) const CONSUMER: &str = "conversions";

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] =
    &[Migration::new(30, "conversions", include_str!("../migrations/0030_conversions.sql"))];

/// This crate's entries of the catalogue of problems.
pub const PROBLEMS: &[&kernel::Problem] = problems::ALL;
