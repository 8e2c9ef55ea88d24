//! The values of a log, without I/O: what is committed to it, and requests for parts of it.

mod batch;
mod entry;
mod head;
mod namespace;
mod rows;
mod select;
mod token;

pub use batch::Batch;
pub use entry::Entry;
pub use head::{Head, Lineage};
pub use namespace::{Counts, Incarnation, Meant, Namespace, NamespaceUpdate, NewNamespace, Size};
pub use rows::Rows;
pub use select::{Axis, Columns, Select, Slice};
pub(crate) use token::{Decision, TokensOf, stored_grant};
pub use token::{NewToken, Rotation, TokenChange, TokenId, TokenRecord};
