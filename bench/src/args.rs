//! The options of `eventodb bench`, as they are typed.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use eventodb_protocol::typed::whole;

use crate::names::Distribution;
use crate::ramp::Stage;
use crate::report::{Threshold, Tolerance};
use crate::scenario::Scenario;

/// The crowd of the hostile scenario. One client in ten is refused or cut at any moment and waits to come again, so
/// that 2,000 are connected.
pub(crate) const CROWD: u64 = 2_400;
/// The memory budget of the hostile scenario's server. With 256 MiB, 811 of 2,000 clients were connected.
pub(crate) const CROWD_BUDGET_MIB: u64 = 4_096;

/// Options of `bench`.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_precedence_over_arg = true)]
pub struct Args {
    /// Something other than measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The scenarios, in the order in which they are measured.
    #[arg(value_enum, default_values = ["sys-version", "write", "append", "stream-get", "category-get"])]
    pub scenarios: Vec<Scenario>,
    /// Every scenario, in place of chosen ones.
    #[arg(long)]
    pub all: bool,
    /// Backend of the server that is started for it.
    #[arg(long, value_enum, default_value = "sqlite", conflicts_with = "url")]
    pub backend: Backend,
    /// PostgreSQL for --backend postgres, in which databases are made and removed again; without it one is started.
    #[arg(long, hide_env_values = true)]
    pub db_url: Option<String>,
    /// A setting of the PostgreSQL that is started, such as max_wal_size=4GB; may be given several times [default:
    /// PostgreSQL's own].
    #[arg(long = "pg-setting", value_name = "NAME=VALUE", value_parser = pg_setting, conflicts_with_all = ["url", "db_url"])]
    pub pg_settings: Vec<Setting>,
    /// Where the data directory is made; it is removed again.
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    /// The program that is started as the server, such as an earlier build [default: this one].
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    pub server_program: Option<PathBuf>,
    /// A server that runs already, in place of one that is started. The bench writes into a namespace of its own there,
    /// which it makes and removes again; that needs the administrator's token, or test mode.
    #[arg(long)]
    pub url: Option<String>,
    /// Where no namespace can be made at --url: write into that of --token, and leave the messages there.
    #[arg(long, requires = "url")]
    pub yes: bool,
    /// A no-op ceiling that runs already, as `bench noop-server` starts it.
    #[arg(long, value_name = "URL")]
    pub noop_url: Option<String>,
    /// File of the authorities in PEM that have signed the certificate of --url at https [default: those of the system].
    #[arg(long, env = "EVENTODB_CA_FILE", value_name = "FILE", requires = "url")]
    pub ca_file: Option<PathBuf>,
    /// The token for --url.
    #[arg(long, requires = "url")]
    pub token: Option<String>,
    /// Connections, or several numbers to measure one after the other [default: as the targets have them].
    #[arg(long, value_delimiter = ',', value_parser = whole(1..=20_000, 64_u64))]
    pub connections: Vec<u64>,
    /// Connections that change while a round goes on, in place of --connections and --duration: SECONDS:CONNECTIONS,
    /// such as 10s:16,20s:64,10s:1; within a stage evenly from the number before.
    #[arg(long, value_name = "STAGES", value_delimiter = ',',
        conflicts_with_all = ["connections", "duration", "count"])]
    pub ramp: Vec<Stage>,
    /// Seconds that each round measures [default: 10 where a ceiling is the measure; 600 for stalls and soak, 20 for idle
    /// and mixed, 3 to 5 for the others, as --plan tells].
    /// catch-up, rare and start end when all is done.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub duration: Option<f64>,
    /// Requests of each round, in place of a duration.
    #[arg(long, value_parser = whole(0.., 100_000_u64))]
    pub count: Option<u64>,
    /// Requests a second over all connections; without it as many as are answered, or as the scenario has them.
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Seconds before each round that do not count.
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = seconds)]
    pub warm_up: f64,
    /// Rounds of each scenario, each after one of its ceiling [default: 3, of mixed 1]; stalls, soak, idle, idle-server and rare have one.
    #[arg(long, value_parser = whole(1.., 3_u32))]
    pub rounds: Option<u32>,
    /// Messages that a write run without a rate has at least, even if they take longer than the duration [default:
    /// 200000, three times the number that a server on SQLite keeps unindexed; 0 on PostgreSQL and with --url].
    #[arg(long, value_parser = whole(0.., 200_000_u64))]
    pub least: Option<u64>,
    /// Messages in place before anything is measured.
    #[arg(long, default_value_t = 10_000, value_parser = whole(0.., 10_000_u64))]
    pub preload: u64,
    /// Messages in place for rare, ns-info, ns-streams, ns-categories and start, over --many-streams [default: five times
    /// --preload]; with --url they measure the messages that are there.
    #[arg(long, value_parser = whole(0.., 1_000_000_u64))]
    pub large: Option<u64>,
    /// Names of streams.
    #[arg(long, default_value_t = 5_000, value_parser = whole(1.., 5_000_u64))]
    pub streams: u64,
    /// Names of categories.
    #[arg(long, default_value_t = 20, value_parser = whole(1..=10_000, 20_u64))]
    pub categories: u64,
    /// How often each stream is chosen.
    #[arg(long, value_enum, default_value = "uniform")]
    pub distribution: Distribution,
    /// Bytes of a message's data.
    #[arg(long, default_value_t = 64, value_parser = whole(0.., 64_usize))]
    pub size: usize,
    /// Messages of an append.
    #[arg(long, default_value_t = 100, value_parser = whole(1..=1_000, 100_u64))]
    pub batch: u64,
    /// Members of a consumer group.
    #[arg(long, default_value_t = 8, value_parser = whole(1.., 8_u64))]
    pub group_size: u64,
    /// Subscribers of poke, fan-out, idle and mixed [default: as the targets have them].
    #[arg(long, value_parser = whole(1..=100_000, 100_u64))]
    pub subscribers: Option<u64>,
    /// Clients of hostile's crowd. At any moment one in ten waits to come again.
    #[arg(long, default_value_t = CROWD, value_parser = whole(1..=100_000, 2_400_u64))]
    pub crowd: u64,
    /// Memory budget of hostile's server, in MiB: with less the server lets in fewer of the crowd.
    #[arg(long, value_name = "MIB", default_value_t = CROWD_BUDGET_MIB, value_parser = whole(1..=1_048_576, 4_096_u64))]
    pub crowd_budget_mib: u64,
    /// The clients beside the writers of siege, of which some alone tell what each kind costs.
    #[arg(long, value_enum, value_name = "KINDS", value_delimiter = ',', default_values_t = Besieger::ALL)]
    pub besiegers: Vec<Besieger>,
    /// Namespaces of `namespaces` and `ns-list`.
    #[arg(long, default_value_t = 5_000, value_parser = whole(1..=100_000, 5_000_u64))]
    pub namespaces: u64,
    /// Messages in place at which `grow` measures.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000000,10000000",
        value_parser = whole(1.., 100_000_u64))]
    pub sizes: Vec<u64>,
    /// Names of streams where there shall be very many: of write-million, grow-write-million and --large.
    #[arg(long, default_value_t = 1_000_000, value_parser = whole(1.., 1_000_000_u64))]
    pub many_streams: u64,
    /// The seed of random choices, which repeat with it.
    #[arg(long, default_value_t = 1, value_parser = whole(0.., 1_u64))]
    pub seed: u64,
    /// A bound, such as write.p99<50ms or write@64.ops>20000; exit code 1 where one is missed.
    #[arg(long = "threshold")]
    pub thresholds: Vec<Threshold>,
    /// Write the report to this file, for `compare` and `report`; after each scenario the report so far.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Leave out the scenarios that --json's file has already, of the same commit, backend and sizes.
    #[arg(long, requires = "json")]
    pub resume: bool,
    /// Only show the plan, and about how long it takes.
    #[arg(long)]
    pub plan: bool,
    /// Write the report to this file as a page with charts, which opens without a network.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The other commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Compare two reports; exit code 1 where something became slower.
    ///
    /// Requests a second are compared, as shares of the no-op ceiling if both reports have it. If they were sent at a
    /// --rate, the median latency is compared. Ceilings themselves are shown and never judged.
    Compare {
        /// The report before.
        old: PathBuf,
        /// The report after.
        new: PathBuf,
        /// How much slower is tolerated.
        #[arg(long, default_value = "20%")]
        tolerance: Tolerance,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Show reports beside each other, usually one a backend.
    Report {
        /// Files that --json wrote.
        #[arg(required = true, value_name = "JSON")]
        reports: Vec<PathBuf>,
        /// Write a page with charts to this file, which opens without a network.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Write tables into this document, between the lines <!-- bench:begin --> and <!-- bench:end -->.
        #[arg(long, value_name = "FILE")]
        markdown: Option<PathBuf>,
        /// Write pictures of scenarios that were measured for minutes to this directory, in or beside that of --markdown's
        /// document, which shows them.
        #[arg(long, value_name = "DIRECTORY", requires = "markdown")]
        pictures: Option<PathBuf>,
    },
    /// The server of the no-op ceiling, until it is ended; it prints where it listens.
    NoopServer,
}

/// The storage of the server that is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// SQLite files, each answer after fsync.
    Sqlite,
    /// SQLite in memory: nothing is durable.
    Memory,
    /// PostgreSQL with its default durability.
    Postgres,
}

/// A kind of clients that siege has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Besieger {
    /// Heads that come byte by byte.
    Heads,
    /// Connections that were used once.
    Idle,
    /// A reader of a byte a second.
    Reader,
    /// An import.
    Import,
    /// Subscribers who come and go.
    Subscribers,
}

impl Besieger {
    /// Every kind.
    pub(crate) const ALL: [Self; 5] = [Self::Heads, Self::Idle, Self::Reader, Self::Import, Self::Subscribers];
}

impl Backend {
    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Name and value.
pub(crate) type Setting = (String, String);

fn pg_setting(text: &str) -> Result<Setting, String> {
    let is_name = |name: &&str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))
    };
    let parted = text.split_once('=').filter(|(name, _)| is_name(name));
    parted.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or_else(|| format!("{text} is no NAME=VALUE"))
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text} is no number of seconds"))?;
    let is_there = std::time::Duration::try_from_secs_f64(seconds).is_ok();
    is_there.then_some(seconds).ok_or_else(|| format!("{text} seconds do not pass"))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text} is no number of requests"))?;
    (rate.is_finite() && rate > 0.0).then_some(rate).ok_or_else(|| format!("{text} requests a second cannot be sent"))
}

/// The options that these words on the command line mean.
#[cfg(test)]
pub(crate) fn parsed(words: &[&str]) -> Result<Args, clap::Error> {
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    Line::try_parse_from([&["bench"], words].concat()).map(|line| line.args)
}
