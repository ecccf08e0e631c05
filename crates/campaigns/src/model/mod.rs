//! The pure rules of campaigns: no database, no clock.

pub(crate) mod life;
pub(crate) mod span;
