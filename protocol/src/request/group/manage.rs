//! What an operator says about a group.

use std::collections::BTreeSet;

use super::{bounded, natural, needed, partitions};
use crate::limits::{
    FILTER_NAMES, GROUP_LIST_DEFAULT, GROUP_LIST_MAX, GROUP_WAIT_DEFAULT_MS, PARKED, PARKED_DEFAULT, PARTITIONS,
    PARTITIONS_DEFAULT, POSITION_MAX, SESSION_DEFAULT_MS, SESSION_MAX_MS, SESSION_MIN_MS, WAIT_MS,
};
use crate::request::namespace::description;
use crate::request::{Call, Options, integer, string};
use crate::{Error, Limits, Timestamp, json, name};

const CREATE_OPTIONS: &[&str] =
    &["categories", "types", "partitions", "start", "sessionMs", "maxParked", "description", "adopt"];
const ADOPT_MEMBERS: &[&str] = &["size", "checkpoints"];
const UPDATE_OPTIONS: &[&str] = &["sessionMs", "maxParked", "description"];
const RESIZE_OPTIONS: &[&str] = &["partitions"];
const RESET_OPTIONS: &[&str] = &["to", "partitions", "dryRun"];
const TO_MEMBERS: &[&str] = &["group"];
const LIST_OPTIONS: &[&str] = &["limit", "cursor"];
const WAIT_OPTIONS: &[&str] = &["globalPosition", "stream", "timeoutMs"];

/// A group to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateGroup {
    /// The categories that it reads; empty if it reads all.
    pub categories: BTreeSet<String>,
    /// The types that it reads; empty if it reads all.
    pub types: BTreeSet<String>,
    /// How many partitions it has.
    pub partitions: u32,
    /// What counts as handled from the beginning.
    pub start: Start,
    /// How long a lease lasts after a call of its member, in milliseconds.
    pub session_ms: i64,
    /// How many streams may be parked at once.
    pub max_parked: i64,
    /// Free text; empty if none was given.
    pub description: String,
}

/// What counts as handled when a group is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// All that is there.
    End,
    /// This position and all below; 0 is nothing.
    After(i64),
    /// What a static group handled.
    Adopt(Adopted),
}

/// The checkpoints of a static group, by member: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted(pub Vec<i64>);

/// What is to be changed about a group; what was left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpdateGroup {
    /// How long a lease lasts after a call of its member, in milliseconds.
    pub session_ms: Option<i64>,
    /// How many streams may be parked at once.
    pub max_parked: Option<i64>,
    /// Free text.
    pub description: Option<String>,
}

/// The new partition count of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResizeGroup {
    /// How many.
    pub partitions: u32,
}

/// Where partitions of a group begin anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResetGroup {
    /// The new checkpoint.
    pub to: ResetTo,
    /// Which partitions; `None` is all.
    pub partitions: Option<Vec<u32>>,
    /// Whether to tell only what it would do.
    pub dry_run: bool,
}

/// A new checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResetTo {
    /// This position; 0 is the beginning.
    Position(i64),
    /// The head.
    End,
    /// Before the first message at or after this time.
    Time(Timestamp),
    /// Where another group is.
    Group(String),
}

/// A page of parked streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedPage {
    /// Most entries.
    pub limit: usize,
    /// Only streams after this one, in byte order.
    pub after: String,
}

/// A page of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditPage {
    /// Most entries.
    pub limit: usize,
    /// Only entries with a lower id.
    pub below: i64,
}

/// What `group.wait` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The position up to which all is to be handled or parked.
    pub position: i64,
    /// Only messages of this stream.
    pub stream: Option<String>,
    /// How long, in milliseconds.
    pub timeout_ms: i64,
}

impl CreateGroup {
    /// Reads the arguments of `group.create`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the argument; so for each `parse` here.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(CREATE_OPTIONS)?;
        let changes = UpdateGroup::read(&options)?;
        Ok(Self {
            categories: names(&options, "categories", limits)?,
            types: names(&options, "types", limits)?,
            partitions: count(&options)?.unwrap_or(PARTITIONS_DEFAULT),
            start: start(&options)?,
            session_ms: changes.session_ms.unwrap_or(SESSION_DEFAULT_MS),
            max_parked: changes.max_parked.unwrap_or(PARKED_DEFAULT),
            description: changes.description.unwrap_or_default(),
        })
    }
}

impl UpdateGroup {
    /// Reads the arguments of `group.update`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        Self::read(&call.options(UPDATE_OPTIONS)?)
    }

    fn read(options: &Options<'_>) -> Result<Self, Error> {
        Ok(Self {
            session_ms: bounded(options, "sessionMs", SESSION_MIN_MS, SESSION_MAX_MS)?,
            max_parked: bounded(options, "maxParked", 0, PARKED)?,
            description: description(options)?,
        })
    }
}

impl ResizeGroup {
    /// Reads the arguments of `group.resize`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(RESIZE_OPTIONS)?;
        Ok(Self { partitions: needed(&options, "partitions", count(&options)?)? })
    }
}

impl ResetGroup {
    /// Reads the arguments of `group.reset`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(RESET_OPTIONS)?;
        let to = needed(&options, "to", options.raw("to"))?;
        Ok(Self {
            to: reset_to(to, limits)?,
            partitions: partitions(&options, "partitions")?,
            dry_run: options.boolean("dryRun")?.unwrap_or(false),
        })
    }
}

impl ParkedPage {
    /// Reads the arguments of `group.parked`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(LIST_OPTIONS)?;
        let after = options.string("cursor")?.unwrap_or_default();
        name::check_asked("cursor", &after, limits)?;
        Ok(Self { limit: list_limit(&options)?, after: after.into_owned() })
    }
}

impl AuditPage {
    /// Reads the arguments of `group.audit`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>) -> Result<Self, Error> {
        let options = call.options(LIST_OPTIONS)?;
        Ok(Self { limit: list_limit(&options)?, below: natural(&options, "cursor")?.unwrap_or(POSITION_MAX) })
    }
}

impl Wait {
    /// Reads the arguments of `group.wait`.
    ///
    /// # Errors
    /// As above.
    pub fn parse(call: &mut Call<'_>, limits: &Limits) -> Result<Self, Error> {
        let options = call.options(WAIT_OPTIONS)?;
        let stream = options.string("stream")?;
        if let Some(stream) = &stream {
            name::check("stream", stream, limits)?;
        }
        let longest = i64::try_from(WAIT_MS).expect("30 seconds");
        Ok(Self {
            position: needed(&options, "globalPosition", natural(&options, "globalPosition")?)?,
            stream: stream.map(Into::into),
            timeout_ms: bounded(&options, "timeoutMs", 0, longest)?.unwrap_or(GROUP_WAIT_DEFAULT_MS),
        })
    }
}

fn count(options: &Options<'_>) -> Result<Option<u32>, Error> {
    let count = bounded(options, "partitions", 1, PARTITIONS.into())?;
    Ok(count.and_then(|count| u32::try_from(count).ok()))
}

fn list_limit(options: &Options<'_>) -> Result<usize, Error> {
    let most = i64::try_from(GROUP_LIST_MAX).expect("1,000 entries");
    let limit = bounded(options, "limit", 1, most)?;
    Ok(limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(GROUP_LIST_DEFAULT))
}

fn names(options: &Options<'_>, name: &str, limits: &Limits) -> Result<BTreeSet<String>, Error> {
    let names = options.strings(name, FILTER_NAMES)?.unwrap_or_default();
    for (at, given) in names.iter().enumerate() {
        name::check(&format!("{name}[{at}]"), given, limits)?;
    }
    Ok(names.into_iter().map(Into::into).collect())
}

fn start(options: &Options<'_>) -> Result<Start, Error> {
    if let Some(adopt) = options.object("adopt")? {
        if options.raw("start").is_some() {
            return Err(Error::invalid("start and adopt exclude each other"));
        }
        return adopted(adopt).map(Start::Adopt);
    }
    let wrong = || Error::invalid("start must be \"beginning\", \"end\" or a position");
    match options.raw("start") {
        None => Ok(Start::After(0)),
        Some(text) => match json::string(text).as_deref() {
            Some("beginning") => Ok(Start::After(0)),
            Some("end") => Ok(Start::End),
            Some(_) => Err(wrong()),
            None => position("start", text).map(Start::After).map_err(|_| wrong()),
        },
    }
}

fn adopted(text: &str) -> Result<Adopted, Error> {
    let options = Options::parse("adopt", "adopt.", text, ADOPT_MEMBERS)?;
    let size = needed(&options, "size", bounded(&options, "size", 1, PARTITIONS.into())?)?;
    let wrong =
        || Error::invalid("adopt.checkpoints must be an array with one position for each of adopt.size members");
    let text = needed(&options, "checkpoints", options.raw("checkpoints"))?;
    let elements = json::elements(text).ok_or_else(wrong)?;
    if usize::try_from(size) != Ok(elements.clone().count()) {
        return Err(wrong());
    }
    let checkpoints = elements.enumerate().map(|(at, text)| position(&format!("adopt.checkpoints[{at}]"), text));
    checkpoints.collect::<Result<_, _>>().map(Adopted)
}

fn reset_to(text: &str, limits: &Limits) -> Result<ResetTo, Error> {
    if text.starts_with('{') {
        let options = Options::parse("to", "to.", text, TO_MEMBERS)?;
        let group = needed(&options, "group", options.string("group")?)?;
        name::check("to.group", &group, limits)?;
        return Ok(ResetTo::Group(group.into_owned()));
    }
    if !text.starts_with('"') {
        return position("to", text).map(ResetTo::Position);
    }
    match &*string("to", text)? {
        "beginning" => Ok(ResetTo::Position(0)),
        "end" => Ok(ResetTo::End),
        time => time.parse().map(ResetTo::Time).map_err(|error| {
            Error::invalid(format!("to must be \"beginning\", \"end\", a position, a time or a group: {error}"))
        }),
    }
}

fn position(name: &str, text: &str) -> Result<i64, Error> {
    let position = integer(name, text)?;
    if !(0..=POSITION_MAX).contains(&position) {
        return Err(Error::invalid(format!("{name} must be between 0 and {POSITION_MAX}")));
    }
    Ok(position)
}
