//! The HTTP interface, driven as a client drives it: the real router over the real domain and an in-memory database.

#[cfg(test)]
mod access;
#[cfg(test)]
mod app;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bulk;
#[cfg(test)]
mod description;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod intake;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod way;
