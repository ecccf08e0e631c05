//! The pure rules of partners: no database, no clock.

pub(crate) mod life;
