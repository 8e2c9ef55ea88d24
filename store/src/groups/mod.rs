//! Consumer groups that the server keeps: the rules, without I/O.
//!
//! A group is a handful of rows. A call is decided in four steps on one version of the group; the decision is stored only
//! if the group still has that version:
//! 1. The backend loads the group's rows ([`Stored`]) into a [`Group`] and takes a [`Moment`]: the time, the head, random
//!    bits, the namespace's last epoch.
//! 2. [`Group::expire`] ends what is over.
//! 3. The function of the call decides. Some calls have to know something of the log. They say first what they ask
//!    ([`Span`]), and are decided with the answer.
//! 4. The backend stores [`Group::changes`] and the last epoch, also if the call was refused, and replies once that
//!    is committed.
//!
//! The rules have no clock, no randomness and no I/O, so that both backends decide alike, and a test can run them beside
//! a model of them under a clock of its own.
//!
//! | call | what it needs from the log |
//! |---|---|
//! | `create`, `join`, `heartbeat`, `leave`, `resize` | the head |
//! | `update`, `pause`, `resume`, `delete`, `list`, `parked`, `retry`, `audit` | nothing |
//! | `park` | the message at the position, and the stream's last message before it that the group reads ([`Failed`]) |
//! | `handled` | [`Group::handled_span`] |
//! | `skip` | [`Group::skip_span`], with the number of its messages |
//! | `read` | [`Group::retry_spans`]; the messages that a [`Page`] is offered; [`Group::marker_spans`] |
//! | `reset` | the position before a time; the messages that a [`ResetPlan`] is offered |
//! | `status` | the messages that [`Waiting`] is offered |
//! | `wait` | [`Group::wait_spans`]; the first message that [`Group::keeps_waiting`] |
//! | the atomic form | [`Group::commit_asks`] |
//!
//! Every state has a file of its own: `leases` (members), `partitions` (owners, epochs, checkpoints), `parked`
//! (streams), `carried` (positions over a resize). The other files are the calls, which change these states together:
//! `manage`, `keeping`, `reset`, `membership`, `checkpoints`, `assignment`, `reading`, `parking`, `marker`, `atomic`, `status`. `state` is the form
//! in which a backend stores what changes often, `change` what it stores of a decision.

mod allowed;
mod assignment;
mod atomic;
mod carried;
mod change;
mod checkpoints;
mod group;
mod hashes;
mod keeping;
mod leases;
mod manage;
mod marker;
mod membership;
mod page;
mod parked;
mod parking;
mod partitions;
mod reading;
mod refusal;
mod reset;
mod rows;
mod span;
mod state;
mod status;

pub use allowed::Allowed;
pub use atomic::{Asked, Known};
pub use carried::{Carried, Void};
pub use change::{Change, Version};
pub use group::{AuditEntry, Changes, Definition, Group, Moment, Settings, Stored};
pub use leases::{Gone, Member, MemberId};
pub use marker::{MARKER, Marker};
pub use page::{Filled, Page};
pub use parked::Parked;
pub use parking::{Failed, SkippedMessages};
pub use partitions::{Ownership, Partition};
pub use reading::{HandedOut, Reading, RetryRow};
pub use refusal::Refusal;
pub use reset::{ResetPlan, ResetPoint};
pub use rows::Changed;
pub use span::Span;
pub use state::{State, Unreadable};
pub use status::Waiting;
