//! The pure rules of reports.

mod delta;

pub(crate) use delta::{Cell, Measures, TYPES, deltas};
