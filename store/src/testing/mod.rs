//! What the tests of this and other crates share.

pub mod postgres;
