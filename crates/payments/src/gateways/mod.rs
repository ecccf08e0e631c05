//! The gateways that payouts can go to.

#[cfg(test)]
mod conformance;
pub mod sandbox;
