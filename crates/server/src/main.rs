//! The `alpes` binary.
fn main() {}
