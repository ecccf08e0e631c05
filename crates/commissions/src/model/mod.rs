//! The pure rules of what is earned: terms applied to a conversion, what refunds leave of it, and which changes of state
//! are legal. It must not know the database, the ledger's entries or today's time.

mod calculate;
mod lifecycle;
mod target;

pub use calculate::Skip;
pub(crate) use calculate::{Calculation, Inputs, Step, calculate};
pub use lifecycle::CommissionAction;
pub(crate) use lifecycle::{LIFECYCLE, after, is_frozen, is_legal, is_live};
pub(crate) use target::{Difference, Position, kept};
