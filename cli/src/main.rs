//! The eventodb command.
fn main() {}
