//! What is said about parked streams, by members and by operators.

use super::{bounded, natural, needed, partition};
use crate::group::Epoch;
use crate::limits::{POSITION_MAX, REASON_BYTES};
use crate::request::{Call, Options};
use crate::{Error, Limits, name};

const PARK_OPTIONS: &[&str] = &["partition", "epoch", "position", "attempt", "reason", "retryInMs"];
const HANDLED_OPTIONS: &[&str] = &["partition", "epoch", "stream", "position", "readTo", "rev"];
const RETRY_OPTIONS: &[&str] = &["stream", "all"];
const SKIP_OPTIONS: &[&str] = &["stream", "position", "dryRun"];

/// A message that could not be handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Park {
    /// Its partition.
    pub partition: u32,
    /// The epoch under which the member has it.
    pub epoch: Epoch,
    /// Its global position.
    pub position: i64,
    /// Which try it was; `None` is the one that was handed out last.
    pub attempt: Option<i64>,
    /// What went wrong.
    pub reason: String,
    /// When it is to be tried again, in milliseconds; `None` is when an operator says so.
    pub retry_in_ms: Option<i64>,
}

/// Messages of a parked stream that were handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// The stream's partition.
    pub partition: u32,
    /// The epoch under which the member has it.
    pub epoch: Epoch,
    /// The stream.
    pub stream: String,
    /// The position of the last message that was handled.
    pub position: i64,
    /// How far the member has read in the partition; `None` is the checkpoint.
    pub read_to: Option<i64>,
    /// The stream's number that the member knows; a late copy has an older one.
    pub rev: Option<i64>,
}

/// Which parked streams are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retry {
    /// This one.
    Stream(String),
    /// All.
    All,
}

/// Messages of a parked stream that count as handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    /// The stream.
    pub stream: String,
    /// The position of the last one.
    pub position: i64,
    /// Whether to tell only what it would do.
    pub dry_run: bool,
}

impl Park {
    /// Reads the arguments of `group.park` behind the member. The reason is cut, not refused: a park must not fail
    /// because of what the handler's error says.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument; so for each `parse` here.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(PARK_OPTIONS)?;
        let (partition, epoch) = right(&options)?;
        let reason = options.string("reason")?.unwrap_or_default();
        let reason = &reason[..reason.floor_char_boundary(REASON_BYTES)];
        Ok(Self {
            partition,
            epoch,
            position: needed(&options, "position", natural(&options, "position")?)?,
            attempt: bounded(&options, "attempt", 1, POSITION_MAX)?,
            // PostgreSQL stores no U+0000 in text. A space is no longer, so that the bound still holds.
            reason: reason.replace('\0', " "),
            retry_in_ms: natural(&options, "retryInMs")?,
        })
    }
}

impl Handled {
    /// Reads the arguments of `group.handled` behind the member.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        Self::read(&call.options(HANDLED_OPTIONS)?, limits)
    }

    /// Reads it from options that may have a number of the stream.
    fn read(options: &Options<'_>, limits: &Limits) -> Result<Self, Error> {
        let without_rev = Self::read_atomic(options, limits)?;
        Ok(Self { rev: natural(options, "rev")?, ..without_rev })
    }

    /// Reads it from options that have no number of the stream.
    pub(super) fn read_atomic(options: &Options<'_>, limits: &Limits) -> Result<Self, Error> {
        let (partition, epoch) = right(options)?;
        Ok(Self {
            partition,
            epoch,
            stream: stream(options, limits)?,
            position: needed(options, "position", natural(options, "position")?)?,
            read_to: natural(options, "readTo")?,
            rev: None,
        })
    }
}

impl Retry {
    /// Reads the arguments of `group.retry`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(RETRY_OPTIONS)?;
        match (options.raw("stream").is_some(), options.boolean("all")?) {
            (true, None | Some(false)) => stream(&options, limits).map(Self::Stream),
            (false, Some(true)) => Ok(Self::All),
            _ => Err(Error::invalid("either stream or all must be given")),
        }
    }
}

impl Skip {
    /// Reads the arguments of `group.skip`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(SKIP_OPTIONS)?;
        Ok(Self {
            stream: stream(&options, limits)?,
            position: needed(&options, "position", natural(&options, "position")?)?,
            dry_run: options.boolean("dryRun")?.unwrap_or(false),
        })
    }
}

/// The partition and the epoch by which a member acts.
pub(super) fn right(options: &Options<'_>) -> Result<(u32, Epoch), Error> {
    let number = needed(options, "partition", partition(options)?)?;
    let epoch = needed(options, "epoch", natural(options, "epoch")?)?;
    Ok((number, Epoch::from_number(epoch)))
}

fn stream(options: &Options<'_>, limits: &Limits) -> Result<String, Error> {
    let stream = needed(options, "stream", options.string("stream")?)?;
    name::check(&options.full("stream"), &stream, limits)?;
    Ok(stream.into_owned())
}
