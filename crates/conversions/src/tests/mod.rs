//! Tests of the context as a whole, over a real database in memory.

mod attribution;
mod check;
mod cost;
mod intake;
mod order;
mod parking;
mod refunds;
