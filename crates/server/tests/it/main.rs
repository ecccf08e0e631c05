//! The one integration binary: whatever needs more than one context, and the simulator.

#[expect(clippy::disallowed_methods, reason = "these tests wait for a broker and for processes")]
#[expect(clippy::unwrap_used, reason = "everything here is a test")]
mod commands;
mod sim;
