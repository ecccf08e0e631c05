//! The HTTP interface, driven as a client drives it: the real router over the real domain and an in-memory database.

mod access;
mod app;
mod bad_input;
mod bulk;
mod description;
mod idempotency;
mod intake;
mod lists;
mod way;
