//! The pure rules: who is credited, who was first, what is taken back. They know neither the database nor a clock.

pub(crate) mod attribution;
pub(crate) mod book;
pub(crate) mod conversion;
pub(crate) mod named;
pub(crate) mod reference_data;
pub(crate) mod refund;
