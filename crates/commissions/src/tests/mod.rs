//! Flows through the whole context, over real SQLite in memory, to the cent.

mod amounts;
mod checks;
mod holds;
mod payouts;
mod slices;
