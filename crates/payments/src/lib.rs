//! Payments: payout batches, their items at a gateway, and adjustments by hand (rules sections 8 and 9). It must not know
//! how a commission came about, nor the partners' bank data: a gateway finds those by the partner's id.

mod adjust;
mod check;
mod create_payout;
mod gateway;
pub mod gateways;
mod lifecycle;
mod model;
mod problems;
mod record_outcome;
mod step;
#[cfg(test)]
mod testing;
pub mod views;

use platform::Migration;

pub use adjust::{AdjustmentKind, RequestAdjustment, WriteOff, approve_adjustment};
pub use check::check;
pub use create_payout::CreatePayout;
pub use gateway::{Callback, Payment, PaymentGateway};
pub use lifecycle::{approve, cancel, submit};
pub use model::{CarriedReason, Outcome};
pub use problems::PROBLEMS;
pub use record_outcome::record_outcome;
pub use step::step;
pub use views::{AdjustmentFilter, AdjustmentView, CarriedView, PayoutFilter, PayoutItemView, PayoutView};

/// The tables of this crate.
pub const MIGRATIONS: &[Migration] = &[Migration::new(50, "payments", include_str!("../migrations/0050_payments.sql"))];

/// How payouts are made.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A batch whose total is above this many minor units (of its currency) needs another approver than its creator.
    pub approval_limit_minor: i64,
    /// The gateway that new batches go to.
    pub gateway: &'static str,
}
