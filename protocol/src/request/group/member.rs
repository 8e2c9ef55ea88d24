//! What a member says about its membership and its partitions.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{bounded, by_partition, epoch, natural, needed, partitions};
use crate::group::Epoch;
use crate::limits::{BATCH_SIZE_MAX, GROUP_BATCH_DEFAULT, MEMBER_WAIT_MS};
use crate::request::{Call, Options, message_id};
use crate::{Error, Limits, name};

const JOIN_OPTIONS: &[&str] = &["name", "instance"];
const HEARTBEAT_OPTIONS: &[&str] = &["checkpoints", "released", "waitMs"];
const LEAVE_OPTIONS: &[&str] = &["checkpoints"];
const READ_OPTIONS: &[&str] = &["batchSize", "waitMs", "partitions", "after", "checkpoints", "released"];
const PRESENTED_MEMBERS: &[&str] = &["epoch", "position"];

/// Who joins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Join {
    /// A label. A living member of the same label is replaced.
    pub name: Option<String>,
    /// The id that the client made for this membership.
    pub instance: Option<Uuid>,
}

/// A position in a partition, with the epoch under which the member has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presented {
    /// The epoch.
    pub epoch: Epoch,
    /// The position.
    pub position: i64,
}

/// What every call of a member may carry: a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberCall {
    /// Up to where partitions are handled.
    pub checkpoints: BTreeMap<u32, Presented>,
    /// Partitions that the member gives back.
    pub released: BTreeMap<u32, Epoch>,
    /// How long the reply may wait, in milliseconds.
    pub wait_ms: i64,
}

/// A member that leaves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leave {
    /// Up to where partitions are handled.
    pub checkpoints: BTreeMap<u32, Presented>,
}

/// A read of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadGroup {
    /// The heartbeat that comes with it.
    pub heartbeat: MemberCall,
    /// Most messages.
    pub batch: usize,
    /// Only of these partitions; `None` is of all that the member owns.
    pub partitions: Option<Vec<u32>>,
    /// Only messages above these positions.
    pub after: BTreeMap<u32, Presented>,
}

impl Join {
    /// Reads the arguments of `group.join`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument; so for each `parse` here.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(JOIN_OPTIONS)?;
        let label = options.string("name")?;
        if let Some(label) = &label {
            name::check("name", label, limits)?;
        }
        let instance = options.string("instance")?.map(|text| message_id("instance", &text)).transpose()?;
        Ok(Self { name: label.map(Into::into), instance })
    }
}

impl MemberCall {
    /// Reads the arguments of `group.heartbeat` behind the member.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        Self::read(&call.options(HEARTBEAT_OPTIONS)?)
    }

    fn read(options: &Options<'_>) -> Result<Self, Error> {
        Ok(Self {
            checkpoints: by_partition(options, "checkpoints", presented)?,
            released: by_partition(options, "released", epoch)?,
            wait_ms: bounded(options, "waitMs", 0, MEMBER_WAIT_MS)?.unwrap_or(0),
        })
    }
}

impl Leave {
    /// Reads the arguments of `group.leave` behind the member.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(LEAVE_OPTIONS)?;
        Ok(Self { checkpoints: by_partition(&options, "checkpoints", presented)? })
    }
}

impl ReadGroup {
    /// Reads the arguments of `group.read` behind the member.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(READ_OPTIONS)?;
        let most = i64::try_from(BATCH_SIZE_MAX).expect("10,000 messages");
        let batch = match bounded(&options, "batchSize", -1, most)? {
            None => GROUP_BATCH_DEFAULT,
            Some(size) => usize::try_from(size).unwrap_or(BATCH_SIZE_MAX),
        };
        Ok(Self {
            heartbeat: MemberCall::read(&options)?,
            batch,
            partitions: partitions(&options, "partitions")?,
            after: by_partition(&options, "after", presented)?,
        })
    }
}

/// `{"epoch": e, "position": n}`.
fn presented(name: &str, text: &str) -> Result<Presented, Error> {
    let prefix = format!("{name}.");
    let options = Options::parse(name, &prefix, text, PRESENTED_MEMBERS)?;
    let epoch = needed(&options, "epoch", natural(&options, "epoch")?)?;
    let position = needed(&options, "position", natural(&options, "position")?)?;
    Ok(Presented { epoch: Epoch::from_number(epoch), position })
}
