//! Consumer groups: the pure rules that server and clients share.
//!
//! A stream belongs to one member of a static group, or to one partition of a group that the server keeps, by the same
//! function. The assignor says which member of a kept group gets which partition, and an epoch numbers each assignment.

mod assignor;
mod epoch;
mod fence;
mod kept;
mod member;
pub mod reply;

pub use assignor::{Holder, Moves, assign};
pub use epoch::Epoch;
pub use fence::{Fence, Fenced};
pub use kept::GroupsThen;
pub use member::{ConsumerGroup, partition_of, partition_of_hash, stream_hash};
