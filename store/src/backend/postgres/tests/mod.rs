//! Tests of what only this backend does; what every backend must do is in the conformance suite.

mod fixture;
mod log;
