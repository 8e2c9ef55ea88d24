//! `group.*`: consumer groups that the server keeps.
//!
//! Each call names a group first. A token that is limited to categories may touch a group only if it may touch each
//! category that the group reads. An unknown group is reported before a wrong argument.

pub(super) mod audit;
pub(super) mod create;
pub(super) mod delete;
pub(super) mod handled;
pub(super) mod heartbeat;
pub(super) mod join;
pub(super) mod leave;
pub(super) mod list;
pub(super) mod park;
pub(super) mod parked;
pub(super) mod pause;
pub(super) mod read;
pub(super) mod reset;
pub(super) mod resize;
pub(super) mod resume;
pub(super) mod retry;
pub(super) mod skip;
pub(super) mod status;
mod target;
pub(super) mod update;
pub(super) mod wait;
