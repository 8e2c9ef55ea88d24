//! Why a call on a group is refused.

use eventodb_protocol::group::Fence;
use eventodb_protocol::limits::CARRIED;

/// Why a call on a group is refused. There is one variant for each reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An argument is at odds with the group or the log. The text names the argument.
    #[error("{0}")]
    Invalid(String),
    /// There is such a group, which reads something else.
    #[error("there is such a group, which reads other categories or types")]
    Exists {
        /// The categories that it reads, if they are not those of the call.
        categories: Option<Vec<String>>,
        /// The types that it reads, if they are not those of the call.
        types: Option<Vec<String>>,
    },
    /// The group is being resized.
    #[error("the group is being resized: repeat the call once it is done")]
    Resizing,
    /// The group carries over as many earlier partition counts as it can.
    #[error(
        "{CARRIED} earlier partition counts are still carried over: repeat the call once their positions are passed"
    )]
    Carrying,
    /// What the call was made on does not hold any more.
    #[error("fenced: {reason}")]
    Fenced {
        /// Why.
        reason: Fence,
        /// The partition that is concerned.
        partition: Option<u32>,
    },
    /// As many streams are parked as may be.
    #[error("{0} streams of the group are parked, and no more may be")]
    ParkFull(i64),
    /// The namespace has as many groups, or the group as many members, as it may have.
    #[error("there are {most} {what}, and no more may be")]
    TooMany {
        /// How many there are.
        most: usize,
        /// Of what.
        what: &'static str,
    },
}

impl Refusal {
    pub(super) fn fenced(reason: Fence) -> Self {
        Self::Fenced { reason, partition: None }
    }

    pub(super) fn fenced_in(reason: Fence, partition: u32) -> Self {
        Self::Fenced { reason, partition: Some(partition) }
    }

    pub(super) fn above_head(what: &str, position: i64, head: i64) -> Self {
        Self::Invalid(format!("{what} must be at most the head {head}, got {position}"))
    }
}
