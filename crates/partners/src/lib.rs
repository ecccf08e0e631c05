//! Partners: who they are and since when they may earn. Owns names, e-mails and states; publishes, without personal
//! data, whether a partner may earn at an instant and what other systems call it. It must not know campaigns,
//! conversions, or any amount of money.

mod apply;
mod check;
mod country;
mod lifecycle;
mod model;
pub mod problems;
mod react;
mod store;
#[cfg(test)]
mod testing;
mod update;
pub mod views;

use platform::Migration;

pub use apply::Apply;
pub use check::check;
pub use country::Country;
pub use lifecycle::change;
pub use model::life::{LIFECYCLE, PartnerAction};
pub use problems::PROBLEMS;
pub use react::consumer;
pub use update::Update;
pub use views::{PartnerFilter, PartnerView};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration::new(10, "partners", include_str!("../migrations/0010_partners.sql"))];
