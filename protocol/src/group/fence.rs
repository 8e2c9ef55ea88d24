//! Why a call of a member is refused.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a call is `FENCED`: what it was made on does not hold any more. It says what the member has to give up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fence {
    /// The lease ended. The member drops everything and joins again.
    Lease,
    /// The group does not know the member. The member drops everything and joins again.
    Unknown,
    /// A younger member of the same name took its place. The member ends with an error.
    Replaced,
    /// The epoch is not the partition's current one. The member drops the partition.
    Epoch,
    /// The message is handled already. The member drops the message.
    Handled,
    /// The message's stream is parked: it comes as a retry. The member drops the stream.
    Parked,
}

impl Fence {
    /// The reason as replies have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Unknown => "unknown",
            Self::Replaced => "replaced",
            Self::Epoch => "epoch",
            Self::Handled => "handled",
            Self::Parked => "parked",
        }
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The `details` of a `FENCED` reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// Why.
    pub reason: Fence,
    /// The partition that the member drops, or drops something of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_name_the_partition_where_there_is_one() {
        for (fenced, text) in [
            (Fenced { reason: Fence::Replaced, partition: None }, r#"{"reason":"replaced"}"#),
            (Fenced { reason: Fence::Epoch, partition: Some(3) }, r#"{"reason":"epoch","partition":3}"#),
        ] {
            assert_eq!(serde_json::to_string(&fenced).expect("it serializes"), text);
            assert_eq!(serde_json::from_str::<Fenced>(text).expect("it parses"), fenced);
            assert!(text.contains(fenced.reason.as_str()));
        }
    }
}
