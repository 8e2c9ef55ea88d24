//! What is measured, one file each kind of load.

pub(crate) mod append;
pub(crate) mod catch_up;
pub(crate) mod constant;
pub(crate) mod fan_out_writes;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod long;
pub(crate) mod mixed;
pub(crate) mod namespaces;
pub(crate) mod poke;
pub(crate) mod rare;
pub(crate) mod read;
pub(crate) mod streams;
pub(crate) mod subscribers;
pub(crate) mod write;

use std::fmt;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::args::Backend;
use crate::measure::Gauge;

/// A scenario, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Ceiling: a bare HTTP handler that answers a constant to the same request.
    Noop,
    /// Ceiling: append 4 KiB to a file and wait for the disk.
    Fsync,
    /// Ceiling: one SQLite connection that commits batches to a log without indexes.
    SqliteRaw,
    /// Ceiling: the same with the indexes built behind it, until they have caught up.
    SqliteLogIndex,
    /// Ceiling: one PostgreSQL connection that commits batches into the server's own tables.
    PgRaw,
    /// `sys.version`: what HTTP and dispatch cost.
    SysVersion,
    /// `stream.write`.
    Write,
    /// `stream.write` with the version that its stream must have.
    WriteExpected,
    /// `stream.write`, all to one stream.
    WriteOneStream,
    /// `stream.write` over --many-streams.
    WriteMillion,
    /// `stream.write` with random ids of the client's.
    WriteClientIds,
    /// `stream.append` of --batch messages.
    Append,
    /// `stream.get` at the end of streams that were just written to.
    StreamTail,
    /// `stream.get` at random positions.
    StreamGet,
    /// `category.get` near the head.
    CategoryTail,
    /// `category.get` at random positions.
    CategoryGet,
    /// `category.get` at random positions, for one member of --group-size.
    CategoryMember,
    /// All preloaded messages by pages of 1,000, one reader.
    CatchUp,
    /// A million of the preloaded messages by one subscription.
    CatchUpSse,
    /// Write sent to poke parsed: 1 subscriber, 100 writes a second.
    Poke,
    /// The same with 1,000 subscribers over 100 categories, 500 writes a second.
    PokeMany,
    /// The same with 1,000 subscribers of the one category that is written to.
    FanOut,
    /// Writes beside 1,000 subscribers of another category with 50 writes a second.
    FanOutWrites,
    /// 10,000 subscriptions that nothing happens to: memory and processor.
    Idle,
    /// A server that nobody asks: memory.
    IdleServer,
    /// `stream.write` beside 2,000 connections that hold whatever they are let: latency, memory, refusals.
    Hostile,
    /// 10,000 writes a second, category tails, subscribers and reads of old data at once.
    Mixed,
    /// Writes and reads at each of --sizes messages.
    Grow,
    /// Filters that match nothing in all --large messages.
    Rare,
    /// `ns.info`, of --large messages.
    NsInfo,
    /// `ns.streams`, 100 of them from random places on.
    NsStreams,
    /// `ns.categories`.
    NsCategories,
    /// `ns.list` of --namespaces.
    NsList,
    /// --namespaces namespaces, each written to once a second and with one subscriber.
    Namespaces,
    /// `stream.write` through two servers on one PostgreSQL, half of the connections each.
    TwoServers,
    /// Ten minutes of writes, and the slowest of each second beside the disk's.
    Stalls,
    /// Ten minutes of writes, reads and subscribers that come and go: does memory grow?
    Soak,
    /// From calling the program to its first answer, with --large messages in place.
    Start,
}

/// A scenario at one width: so many connections, or messages in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    /// The scenario.
    pub(crate) scenario: Scenario,
    /// Connections or messages; 1 where the scenario knows neither.
    pub(crate) width: u64,
}

/// What a scenario's width is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// Connections, usually so many.
    Connections(&'static [u64]),
    /// Messages in a commit.
    Batch(&'static [u64]),
    /// It has none.
    None,
}

impl Scenario {
    /// Its name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What its width is, and which ones are measured unless others are asked for.
    pub(crate) fn width(self) -> Width {
        match self {
            Self::Write => Width::Connections(&[1, 16, 64, 256]),
            Self::Append => Width::Connections(&[8]),
            Self::StreamTail | Self::StreamGet | Self::CategoryTail | Self::CategoryGet | Self::CategoryMember => {
                Width::Connections(&[16])
            }
            Self::Noop
            | Self::SysVersion
            | Self::WriteExpected
            | Self::WriteOneStream
            | Self::WriteMillion
            | Self::WriteClientIds
            | Self::FanOutWrites
            | Self::TwoServers
            | Self::Hostile
            | Self::Stalls => Width::Connections(&[64]),
            Self::SqliteRaw | Self::SqliteLogIndex => Width::Batch(&[1, 32, 256]),
            Self::PgRaw => Width::Batch(&[1, 32, 256, 1_000]),
            _ => Width::None,
        }
    }

    /// Whether --connections says how many connections it has.
    pub(crate) fn has_connections(self) -> bool {
        matches!(self.width(), Width::Connections(_))
    }

    /// Whether it is no scenario but what scenarios are held against.
    pub(crate) fn is_ceiling(self) -> bool {
        matches!(self, Self::Noop | Self::Fsync | Self::SqliteRaw | Self::SqliteLogIndex | Self::PgRaw)
    }

    /// The only backend that it can be measured on, where there is only one.
    pub(crate) fn needs_backend(self) -> Option<Backend> {
        match self {
            Self::SqliteRaw | Self::SqliteLogIndex => Some(Backend::Sqlite),
            Self::PgRaw | Self::TwoServers => Some(Backend::Postgres),
            _ => None,
        }
    }

    /// Whether messages must be in place.
    pub(crate) fn needs_messages(self) -> bool {
        !self.is_ceiling() && !self.has_own_server() && !self.is_about_size() && self != Self::SysVersion
    }

    /// Whether it is about a log that is larger than that of the others.
    pub(crate) fn is_about_size(self) -> bool {
        matches!(self, Self::Rare | Self::NsInfo | Self::NsStreams | Self::NsCategories | Self::Start)
    }

    /// Whether it has a server for itself, with nothing in place.
    pub(crate) fn has_own_server(self) -> bool {
        matches!(self, Self::Idle | Self::IdleServer | Self::Hostile | Self::Grow | Self::NsList | Self::Namespaces)
    }

    /// Whether the server must be one that the bench started: to look into its process, or to start it again.
    pub(crate) fn needs_started_server(self) -> bool {
        self.has_own_server() || matches!(self, Self::TwoServers | Self::Soak | Self::Start)
    }

    /// Whether work of the server is left when the last answer has come.
    pub(crate) fn writes(self) -> bool {
        matches!(
            self,
            Self::Write
                | Self::WriteExpected
                | Self::WriteOneStream
                | Self::WriteMillion
                | Self::WriteClientIds
                | Self::Append
                | Self::FanOutWrites
                | Self::Mixed
                | Self::TwoServers
                | Self::Stalls
                | Self::Soak
        )
    }

    /// The method beyond the protocol's core that it needs.
    pub(crate) fn needs_method(self) -> Option<&'static str> {
        matches!(self, Self::Append | Self::Rare).then_some("stream.append")
    }

    /// Requests a second, where the scenario is about a rate.
    pub(crate) fn usual_rate(self) -> Option<f64> {
        match self {
            Self::Poke => Some(100.0),
            Self::PokeMany => Some(500.0),
            Self::FanOut => Some(300.0),
            Self::Mixed => Some(10_000.0),
            Self::Soak => Some(2_000.0),
            _ => None,
        }
    }

    /// Subscribers, where it has any.
    pub(crate) fn usual_subscribers(self) -> u64 {
        match self {
            Self::PokeMany | Self::FanOut | Self::FanOutWrites => 1_000,
            Self::Idle => 10_000,
            Self::Hostile => 2_000,
            Self::Mixed => 100,
            _ => 1,
        }
    }

    /// How long a round measures.
    pub(crate) fn usual_duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Stalls | Self::Soak => 600,
            // More than a heartbeat.
            Self::Idle => 20,
            // Twice: alone, and beside the crowd.
            Self::Hostile => 15,
            // Three times what a server on SQLite keeps unindexed.
            Self::Mixed => 20,
            // Twelve figures a round, each with a ceiling of its own.
            Self::Grow => 4,
            Self::IdleServer => 2,
            // Held against fixed figures, from which they are far enough away for less to tell.
            Self::StreamTail | Self::StreamGet | Self::CategoryTail | Self::Poke | Self::PokeMany | Self::FanOut => 5,
            Self::NsInfo | Self::NsStreams | Self::NsCategories | Self::NsList => 3,
            Self::Namespaces => 5,
            // They are measured again beside each scenario that is held against them.
            _ if self.is_ceiling() => 3,
            _ => 10,
        })
    }

    /// How many rounds there are.
    pub(crate) fn usual_rounds(self) -> u32 {
        if self.is_once() || self == Self::Mixed { 1 } else { 3 }
    }

    /// Whether one round says it all: it is long, or nothing of it has a pace.
    pub(crate) fn is_once(self) -> bool {
        matches!(self, Self::Stalls | Self::Soak | Self::Idle | Self::IdleServer | Self::Hostile | Self::Rare)
    }

    /// Whether a round ends when all is done, however long that takes.
    pub(crate) fn is_whole(self) -> bool {
        matches!(self, Self::CatchUp | Self::CatchUpSse | Self::Rare | Self::Start)
    }
}

impl Case {
    /// A scenario at a width.
    pub(crate) const fn new(scenario: Scenario, width: u64) -> Self {
        Self { scenario, width }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scenario.width() {
            Width::Connections(_) => write!(f, "{}@{}", self.scenario.name(), self.width),
            Width::Batch(_) => write!(f, "{}/{}", self.scenario.name(), self.width),
            Width::None => f.write_str(&self.scenario.name()),
        }
    }
}

/// Lets time pass, unless the run is broken off.
pub(crate) async fn pause(duration: Duration, gauge: &Gauge) {
    const STEP: Duration = Duration::from_millis(50);
    let begin = Instant::now();
    while let Some(left) = duration.checked_sub(begin.elapsed())
        && !gauge.is_stopped()
    {
        tokio::time::sleep(left.min(STEP)).await;
    }
}
