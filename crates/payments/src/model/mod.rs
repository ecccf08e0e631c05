//! The pure rules of payments: life cycles, what a batch pays, what a gateway's answer does to an item. It must not know
//! a database or a gateway.

mod commission;
mod lifecycle;
mod outcome;
mod plan;

pub(crate) use commission::payable_commission;
pub(crate) use lifecycle::{PAYOUT, PAYOUT_ITEM, PayoutAction};
pub use outcome::Outcome;
pub(crate) use outcome::{delay, steps};
pub use plan::CarriedReason;
pub(crate) use plan::{Line, Plan, Standing, content_digest, plan};
