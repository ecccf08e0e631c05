//! The composition root: wiring, loops, the real clock and real randomness, and the subcommands of `alpes`. Nothing
//! depends on it; it holds no rule of the domain.

mod changes;
pub mod cli;
mod clock;
mod commands;
mod demo;
mod duties;
mod inbound;
mod loops;
mod output;
mod outside;
mod serve;
mod sinks;
mod telemetry;
pub mod verify;
pub mod wiring;
mod worker;

pub use clock::DemoClock;
pub use worker::Worker;
