//! Campaigns: their life, their terms in versions, who is enrolled since when and by which code, and their budget.
//! Publishes everything that decides attribution and commissions. It must not know conversions, nor how an attribution
//! or an amount comes about; of partners it reads only that they exist.

mod budget;
mod check;
mod close;
mod create;
mod enroll;
mod enrollments;
mod lifecycle;
mod model;
pub mod problems;
mod react;
mod store;
mod terms;
#[cfg(test)]
mod testing;
mod update;
pub mod views;

use platform::Migration;

pub use budget::ChangeBudget;
pub use check::check;
pub use close::CloseEnrollment;
pub use create::Create;
pub use enroll::Enroll;
pub use lifecycle::change;
pub use model::life::{CampaignAction, LIFECYCLE};
pub use problems::PROBLEMS;
pub use react::consumer;
pub use terms::PublishTerms;
pub use update::Update;
pub use views::{CampaignFilter, CampaignView, EnrollmentFilter, EnrollmentState, EnrollmentView};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] =
    &[Migration::new(20, "campaigns", include_str!("../migrations/0020_campaigns.sql"))];
