//! The scenarios: one table of them, and one file for each kind of load.

pub(crate) mod catch_up;
pub(crate) mod ceiling;
mod conditions;
pub(crate) mod group;
mod guarded;
pub(crate) mod hostile;
pub(crate) mod idle;
pub(crate) mod listen;
pub(crate) mod long;
pub(crate) mod mixed;
pub(crate) mod namespaces;
pub(crate) mod poke;
pub(crate) mod rare;
pub(crate) mod read;
mod siege;
mod turn;
pub(crate) mod write;

use std::fmt;
use std::pin::Pin;
use std::time::Duration;

use clap::ValueEnum;

pub(crate) use self::turn::Turn;
use self::write::Kind;
use crate::args::Backend::{self, Postgres, Sqlite};
use crate::load::Loaded;

/// A scenario, as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Ceiling: a bare HTTP handler that returns a constant.
    Noop,
    /// Ceiling: append 4 KiB to a file and wait for the disk.
    Fsync,
    /// Ceiling: one SQLite connection that commits batches to a log without indexes.
    SqliteRaw,
    /// Ceiling: the same with the indexes built behind it, until they have caught up.
    SqliteLogIndex,
    /// Ceiling: one PostgreSQL connection that commits batches into the server's own tables.
    PgRaw,
    /// `sys.version`: the cost of HTTP and dispatch.
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
    /// `stream.write` beside 16 connections whose appends have conditions on a million older messages.
    Conditions,
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
    /// All preloaded messages by one member of a group, by pages of 1,000, with a checkpoint for each.
    GroupRead,
    /// Write sent to checkpoint stored: 4 members of a group, 1,000 writes a second.
    GroupLive,
    /// The same while one of 16 partitions begins with the first preloaded message.
    GroupBehind,
    /// Groups of 4 members that heartbeat and have nothing to read: memory and processor.
    GroupMany,
    /// Heartbeats that move 16 checkpoints, while a snapshot of PostgreSQL is open for ten minutes.
    GroupCheckpoint,
    /// Write sent to poke parsed: 1 subscriber, 100 writes a second.
    Poke,
    /// The same with 1,000 subscribers over 100 categories, 500 writes a second.
    PokeMany,
    /// The same with 1,000 subscribers of the one category that is written to.
    FanOut,
    /// Writes beside 1,000 subscribers of another category with 50 writes a second.
    FanOutWrites,
    /// 10,000 subscriptions without messages: memory and processor.
    Idle,
    /// A server without requests: memory.
    IdleServer,
    /// `stream.write` over four HTTP/2 connections.
    WriteHttp2,
    /// The same over TLS 1.3.
    WriteTls,
    /// Requests with a wrong token.
    RefusedToken,
    /// `stream.write` to a log that takes nothing because it is overloaded.
    RefusedOverload,
    /// `stream.append` at four times the rate that a server with slow commits takes: how much is accepted?
    Overload,
    /// `stream.write` beside more than 2,000 connections that hold as much as they can: latency, memory, refusals.
    Hostile,
    /// `stream.write` beside slow heads, idle connections, a slow reader, an import, and subscribers who come and go.
    Siege,
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

/// A scenario at one width: a number of connections, or of messages in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Case {
    pub(crate) scenario: Scenario,
    /// Connections or messages; 1 if the scenario has neither.
    pub(crate) width: u64,
}

/// The unit of a scenario's width, and the widths that are measured unless others are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Connections(&'static [u64]),
    /// Messages in a commit.
    Batch(&'static [u64]),
    None,
}

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rate {
    /// As many as are answered, whatever `--rate` says.
    Unpaced,
    /// As many as are answered, or `--rate`.
    Free,
    /// This many, or `--rate`.
    At(f64),
    /// One for each namespace, or `--rate`.
    PerNamespace,
}

/// The things that must be in place before a round begins. They tell which server is measured, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// A ceiling: the no-op server.
    Noop,
    /// A ceiling: a directory.
    Directory,
    /// A ceiling: a SQLite log, with or without indexes.
    SqliteLog { is_indexed: bool },
    /// A ceiling: a PostgreSQL log.
    PostgresLog,
    /// The usual server.
    Server,
    /// The usual server with `--preload` messages.
    Messages,
    /// The same, and behind them messages for reads near the head.
    Newest,
    /// The same, and behind them a page for each of a few streams.
    HotStreams,
    /// The same, and a namespace with `--many-streams`.
    ManyStreams,
    /// A server with `--large` messages.
    Large,
    /// The same, and a category that only one stream has.
    Rare,
    /// A server with `--namespaces` namespaces.
    Namespaces,
    /// An empty server, which the round starts itself.
    OwnServer,
}

/// How a round ends, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Rounds of this many seconds, three of them unless more or fewer are asked for.
    Rounds(u64),
    /// One round of this many seconds unless more are asked for.
    OneRound(u64),
    /// Always one round of this many seconds: it is long, or has no pace that differs from round to round.
    Once(u64),
    /// Three rounds, each of which ends when all is done, however long that takes.
    UntilDone,
    /// Always one such round.
    OnceUntilDone,
}

pub(crate) type Run = for<'a> fn(Turn<'a>) -> Pin<Box<dyn Future<Output = anyhow::Result<Loaded>> + 'a>>;

/// A row of the table.
#[derive(Debug)]
pub(crate) struct Spec {
    scenario: Scenario,
    pub(crate) needs: Needs,
    pub(crate) width: Width,
    pub(crate) length: Length,
    pub(crate) rate: Rate,
    /// Subscribers, unless others are asked for.
    pub(crate) subscribers: u64,
    /// Whether the server has work left when the last answer has come.
    pub(crate) writes: bool,
    /// The only backend that it can be measured on, if there is only one.
    pub(crate) backend: Option<Backend>,
    /// Whether the bench must have started the server: to look into its process, or to start it again.
    pub(crate) is_started: bool,
    /// The method beyond the protocol's core that it needs.
    pub(crate) method: Option<&'static str>,
    pub(crate) run: Run,
}

const fn spec(scenario: Scenario, needs: Needs, width: Width, length: Length, run: Run) -> Spec {
    let is_started = matches!(needs, Needs::OwnServer | Needs::Namespaces);
    let (rate, subscribers, writes, backend, method) = (Rate::Free, 1, false, None, None);
    Spec { scenario, needs, width, length, rate, subscribers, writes, backend, is_started, method, run }
}

const fn ceiling(scenario: Scenario, needs: Needs, width: Width, backend: Option<Backend>, run: Run) -> Spec {
    Spec { backend, rate: Rate::Unpaced, ..spec(scenario, needs, width, Length::Rounds(3), run) }
}

const fn writes(scenario: Scenario, needs: Needs, width: Width, run: Run) -> Spec {
    Spec { writes: true, ..spec(scenario, needs, width, Length::Rounds(10), run) }
}

const PLAIN: Kind = Kind { size: 0, batch: None, expects_version: false, client_ids: false, one_stream: false };
const AT_64: Width = Width::Connections(&[64]);
const AT_16: Width = Width::Connections(&[16]);
const NONE: Width = Width::None;

use Length::{Once, OnceUntilDone, OneRound, Rounds, UntilDone};
use Needs::{HotStreams, Large, ManyStreams, Messages, Newest, OwnServer, Server, SqliteLog};
use Rate::{At, PerNamespace, Unpaced};

/// Every scenario, in the order of the enumeration.
///
/// Rounds are 10 s long where a share of a ceiling is the target, and shorter where the figure is far from a fixed
/// target. An idle round is longer than a heartbeat, a mixed one writes three times what a server on SQLite keeps
/// unindexed, and hostile and siege run twice: alone and beside the others.
#[rustfmt::skip]
static TABLE: &[Spec] = &[
    ceiling(Scenario::Noop, Needs::Noop, AT_64, None, |turn| Box::pin(ceiling::noop(turn))),
    ceiling(Scenario::Fsync, Needs::Directory, NONE, None, |turn| Box::pin(ceiling::fsync(turn))),
    ceiling(Scenario::SqliteRaw, SqliteLog { is_indexed: false }, Width::Batch(&[1, 32, 256]), Some(Sqlite),
        |turn| Box::pin(ceiling::sqlite(turn, false))),
    ceiling(Scenario::SqliteLogIndex, SqliteLog { is_indexed: true }, Width::Batch(&[1, 32, 256]), Some(Sqlite),
        |turn| Box::pin(ceiling::sqlite(turn, true))),
    ceiling(Scenario::PgRaw, Needs::PostgresLog, Width::Batch(&[1, 32, 256, 1_000]), Some(Postgres),
        |turn| Box::pin(ceiling::postgres(turn))),
    spec(Scenario::SysVersion, Server, AT_64, Rounds(10), |turn| Box::pin(turn::version(turn))),
    writes(Scenario::Write, Messages, Width::Connections(&[1, 16, 64, 256]), |turn| Box::pin(turn::write(turn, PLAIN))),
    writes(Scenario::WriteExpected, Messages, AT_64,
        |turn| Box::pin(turn::write(turn, Kind { expects_version: true, ..PLAIN }))),
    writes(Scenario::WriteOneStream, Messages, AT_64,
        |turn| Box::pin(turn::write(turn, Kind { one_stream: true, ..PLAIN }))),
    writes(Scenario::WriteMillion, ManyStreams, AT_64, |turn| Box::pin(turn::write_many(turn))),
    writes(Scenario::WriteClientIds, Messages, AT_64,
        |turn| Box::pin(turn::write(turn, Kind { client_ids: true, ..PLAIN }))),
    Spec { method: Some("stream.append"),
        ..writes(Scenario::Append, Messages, Width::Connections(&[8]), |turn| Box::pin(turn::append(turn))) },
    Spec { method: Some("streams.append"),
        ..writes(Scenario::Conditions, Messages, AT_64, |turn| Box::pin(conditions::run(turn))) },
    spec(Scenario::StreamTail, HotStreams, AT_16, Rounds(5), |turn| Box::pin(turn::stream_tail(turn))),
    spec(Scenario::StreamGet, Messages, AT_16, Rounds(5), |turn| Box::pin(turn::stream_get(turn))),
    spec(Scenario::CategoryTail, Newest, AT_16, Rounds(5), |turn| Box::pin(turn::category_tail(turn))),
    spec(Scenario::CategoryGet, Messages, AT_16, Rounds(10), |turn| Box::pin(turn::category_get(turn))),
    spec(Scenario::CategoryMember, Messages, AT_16, Rounds(10), |turn| Box::pin(turn::category_member(turn))),
    Spec { rate: Unpaced, ..spec(Scenario::CatchUp, Messages, NONE, UntilDone, |turn| Box::pin(catch_up::pages(turn))) },
    Spec { rate: Unpaced,
        ..spec(Scenario::CatchUpSse, Messages, NONE, UntilDone, |turn| Box::pin(catch_up::subscription(turn))) },
    Spec { rate: Unpaced, method: Some("group.read"),
        ..spec(Scenario::GroupRead, Messages, NONE, UntilDone, |turn| Box::pin(group::read::run(turn))) },
    Spec { rate: At(1_000.0), method: Some("group.read"),
        ..spec(Scenario::GroupLive, Messages, NONE, Rounds(10), |turn| Box::pin(group::live::live(turn))) },
    Spec { rate: At(1_000.0), method: Some("group.read"),
        ..spec(Scenario::GroupBehind, Messages, NONE, Rounds(10), |turn| Box::pin(group::live::behind(turn))) },
    Spec { subscribers: 4_000,
        ..spec(Scenario::GroupMany, OwnServer, NONE, Once(20), |turn| Box::pin(group::many::run(turn))) },
    Spec { rate: Unpaced, backend: Some(Postgres), is_started: true, method: Some("group.heartbeat"),
        ..spec(Scenario::GroupCheckpoint, Messages, AT_16, Once(600), |turn| Box::pin(group::checkpoint::run(turn))) },
    Spec { rate: At(100.0), ..spec(Scenario::Poke, Messages, NONE, Rounds(5), |turn| Box::pin(poke::run(turn, 1))) },
    Spec { rate: At(500.0), subscribers: 1_000,
        ..spec(Scenario::PokeMany, Messages, NONE, Rounds(5), |turn| Box::pin(poke::run(turn, 100))) },
    Spec { rate: At(300.0), subscribers: 1_000,
        ..spec(Scenario::FanOut, Messages, NONE, Rounds(5), |turn| Box::pin(poke::run(turn, 1))) },
    Spec { rate: Unpaced, subscribers: 1_000,
        ..writes(Scenario::FanOutWrites, Messages, AT_64, |turn| Box::pin(poke::beside_writes(turn))) },
    Spec { subscribers: 10_000,
        ..spec(Scenario::Idle, OwnServer, NONE, Once(20), |turn| Box::pin(idle::subscriptions(turn))) },
    spec(Scenario::IdleServer, OwnServer, NONE, Once(2), |turn| Box::pin(idle::server(turn))),
    spec(Scenario::WriteHttp2, OwnServer, AT_64, Rounds(5), |turn| Box::pin(guarded::write_over_http2(turn, false))),
    spec(Scenario::WriteTls, OwnServer, AT_64, Rounds(5), |turn| Box::pin(guarded::write_over_http2(turn, true))),
    Spec { rate: Unpaced, ..spec(Scenario::RefusedToken, OwnServer, AT_64, Rounds(5), |turn| Box::pin(guarded::wrong_token(turn))) },
    Spec { rate: Unpaced, backend: Some(Postgres),
        ..spec(Scenario::RefusedOverload, OwnServer, AT_64, Rounds(3), |turn| Box::pin(guarded::shed(turn))) },
    Spec { rate: Unpaced, backend: Some(Postgres),
        ..spec(Scenario::Overload, OwnServer, Width::Connections(&[1_024]), Once(10), |turn| Box::pin(guarded::overload(turn))) },
    spec(Scenario::Hostile, OwnServer, AT_64, Once(15), |turn| Box::pin(hostile::run(turn))),
    spec(Scenario::Siege, OwnServer, AT_64, Once(15), |turn| Box::pin(siege::run(turn))),
    Spec { rate: At(10_000.0), subscribers: 100, writes: true,
        ..spec(Scenario::Mixed, Messages, NONE, OneRound(20), |turn| Box::pin(mixed::run(turn))) },
    spec(Scenario::Grow, OwnServer, NONE, Rounds(4),
        |_| Box::pin(async { anyhow::bail!("grow has rows of its own") })),
    Spec { method: Some("stream.append"),
        ..spec(Scenario::Rare, Needs::Rare, NONE, OnceUntilDone, |turn| Box::pin(rare::run(turn))) },
    spec(Scenario::NsInfo, Large, NONE, Rounds(3), |turn| Box::pin(turn::info(turn))),
    spec(Scenario::NsStreams, Large, NONE, Rounds(3), |turn| Box::pin(turn::streams(turn))),
    spec(Scenario::NsCategories, Large, NONE, Rounds(3), |turn| Box::pin(turn::categories(turn))),
    spec(Scenario::NsList, Needs::Namespaces, NONE, Rounds(3), |turn| Box::pin(turn::list(turn))),
    Spec { rate: PerNamespace,
        ..spec(Scenario::Namespaces, Needs::Namespaces, NONE, Rounds(5), |turn| Box::pin(namespaces::run(turn))) },
    Spec { backend: Some(Postgres), is_started: true,
        ..writes(Scenario::TwoServers, Messages, AT_64, |turn| Box::pin(turn::two_servers(turn))) },
    Spec { length: Once(600), ..writes(Scenario::Stalls, Messages, AT_64, |turn| Box::pin(long::stalls(turn))) },
    Spec { rate: At(2_000.0), length: Once(600), is_started: true,
        ..writes(Scenario::Soak, Messages, NONE, |turn| Box::pin(long::soak(turn))) },
    Spec { is_started: true,
        ..spec(Scenario::Start, Large, NONE, UntilDone, |turn| Box::pin(long::start(turn))) },
];

impl Scenario {
    /// Its name on the command line and in reports.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn spec(self) -> &'static Spec {
        let spec = &TABLE[self as usize];
        debug_assert_eq!(spec.scenario, self, "the table is in the order of the enumeration");
        spec
    }

    /// Whether `--connections` says how many connections it has.
    pub(crate) fn has_connections(self) -> bool {
        matches!(self.spec().width, Width::Connections(_))
    }

    /// Whether it measures the machine, for scenarios to be compared with.
    pub(crate) fn is_ceiling(self) -> bool {
        matches!(self.spec().needs, Needs::Noop | Needs::Directory | SqliteLog { .. } | Needs::PostgresLog)
    }

    /// Whether the usual server has messages for it.
    pub(crate) fn needs_messages(self) -> bool {
        matches!(self.spec().needs, Messages | Newest | HotStreams | ManyStreams)
    }

    /// Whether it measures the larger log.
    pub(crate) fn is_about_size(self) -> bool {
        matches!(self.spec().needs, Large | Needs::Rare)
    }

    /// How long a round measures, unless another duration is asked for; `None` if a round ends when all is done.
    pub(crate) fn usual_duration(self) -> Option<Duration> {
        match self.spec().length {
            Rounds(seconds) | OneRound(seconds) | Once(seconds) => Some(Duration::from_secs(seconds)),
            UntilDone | OnceUntilDone => None,
        }
    }

    /// The number of rounds, unless another one is asked for.
    pub(crate) fn usual_rounds(self) -> u32 {
        if matches!(self.spec().length, Rounds(_) | UntilDone) { 3 } else { 1 }
    }

    pub(crate) fn is_once(self) -> bool {
        matches!(self.spec().length, Once(_) | OnceUntilDone)
    }
}

impl Case {
    pub(crate) const fn new(scenario: Scenario, width: u64) -> Self {
        Self { scenario, width }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scenario.spec().width {
            Width::Connections(_) => write!(f, "{}@{}", self.scenario.name(), self.width),
            Width::Batch(_) => write!(f, "{}/{}", self.scenario.name(), self.width),
            Width::None => f.write_str(&self.scenario.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Distribution;
    use crate::load::Lane;
    use crate::names::Names;
    use crate::wire::Address;

    pub(super) fn address() -> Address {
        Address::new("http://127.0.0.1:1", None).unwrap()
    }

    pub(super) fn names() -> Names {
        Names::new(5_000, 20, Distribution::Uniform)
    }

    /// The call that a lane makes next.
    pub(crate) fn body(lane: &mut dyn Lane) -> serde_json::Value {
        let text = std::str::from_utf8(lane.request()).unwrap();
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    #[test]
    fn every_scenario_has_its_row() {
        let scenarios: Vec<Scenario> = TABLE.iter().map(|spec| spec.scenario).collect();
        assert_eq!(scenarios, Scenario::value_variants());
    }
}
