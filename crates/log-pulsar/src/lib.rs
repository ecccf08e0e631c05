//! Apache Pulsar: takes the events of the log to a broker, reads a broker's messages, keeps the schemas on its topics,
//! carries what bridges bring and want.
//! The only crate that knows the driver. It must not know what an event means, and it decides nothing: exactly-once
//! effects come from the database (`platform::inbox`), the broker gives at least once and the order of each key.
//!
//! Everything is synchronous outside and must not be called from inside another async runtime: a sink, a subscription
//! and an administrator each block the thread that calls them, with a time limit on every wait. Loops live in server.

mod admin;
pub mod asyncapi;
mod avro;
mod bridge;
mod document;
mod faults;
mod held;
mod inbound;
mod letters;
mod link;
mod message;
mod options;
mod receiver;
mod replay;
pub mod schema;
mod sink;
mod subscription;
pub mod topics;
mod unreadable;
mod watchdog;

pub use bridge::Bridge;
pub use faults::problems;
pub use inbound::Inbound;
pub use options::{Encoding, Options};
pub use replay::{Fate, Letter, Letters, Wanted};
pub use sink::PulsarSink;
pub use subscription::{Progress, Subscription, SubscriptionOptions};
