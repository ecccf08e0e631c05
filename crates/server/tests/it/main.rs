//! The one integration binary: whatever needs more than one context, and the simulator.

mod sim;
