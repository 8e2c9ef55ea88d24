//! What is committed to a log and what is asked of it: plain values, without I/O.
//!
//! Nothing here imports anything of this crate that stands above it.

mod batch;
mod entry;
mod head;
mod namespace;
mod rows;
mod select;

pub use batch::Batch;
pub use entry::Entry;
pub use head::{Head, Lineage};
pub use namespace::{Counts, Incarnation, Namespace, NewNamespace};
pub use rows::Rows;
pub use select::{Axis, Columns, Select, Slice};
