//! A whole run: the servers, the rounds and their order, and what is printed while it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::args::{Args, Backend};
use crate::ceiling::fsync;
use crate::load::{self, Loaded, Plan};
use crate::measure::Gauge;
use crate::names::Names;
use crate::process::{Server, cpu, settle};
use crate::progress::Progress;
use crate::report::{Cost, Report, Round, Row, median};
use crate::resident;
use crate::scenario::append::{Append, Fill};
use crate::scenario::constant::Constant;
use crate::scenario::read::{Place, Read};
use crate::scenario::write::{Kind, Write};
use crate::scenario::{Scenario, catch_up, poke};
use crate::wire::{Address, Connection};

/// What a run needs.
struct Bench<'a> {
    args: &'a Args,
    gauge: Arc<Gauge>,
    names: Names,
    directory: tempfile::TempDir,
    target: Address,
    noop: Address,
    server: Option<Server>,
    noop_server: Server,
    progress: Progress,
}

/// Messages of three memtables of the server's default size: below that a write run shows no index at work.
const LEAST_ON_SQLITE: u64 = 150_000;

/// Measures what was asked for; Ctrl-C ends it with what there is.
///
/// # Errors
/// A server does not start or cannot be reached.
pub async fn run(args: &Args) -> anyhow::Result<Report> {
    let gauge = Arc::new(Gauge::default());
    let progress = Progress::begin(Arc::clone(&gauge), rounds(args));
    let bench = Bench::start(args, Arc::clone(&gauge), progress).await?;
    let mut report = Report { environment: bench.environment(), ..Report::default() };
    bench.preload().await?;
    for &scenario in &args.scenarios {
        let all: &[u64] = if scenario.has_connections() { &args.connections } else { &[1] };
        for &connections in all {
            if !gauge.is_stopped() {
                report.rows.push(bench.row(scenario, connections).await?);
            }
        }
    }
    report.interrupted = gauge.is_stopped();
    bench.progress.end();
    if let Some(server) = bench.server {
        server.stop().await?;
    }
    bench.noop_server.stop().await?;
    Ok(report)
}

impl<'a> Bench<'a> {
    async fn start(args: &'a Args, gauge: Arc<Gauge>, progress: Progress) -> anyhow::Result<Self> {
        let parent = args.data_dir.clone().unwrap_or_else(|| ".".into());
        std::fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new().prefix("eventodb-bench-").tempdir_in(&parent)?;
        let noop_server = Server::start(&["bench".to_owned(), "noop-server".to_owned()]).await?;
        let noop = Address::new(&noop_server.url, None)?;
        let server = match args.url {
            Some(_) => None,
            None => Some(Server::start(&serve_arguments(args, directory.path())?).await?),
        };
        let url = args.url.as_deref().or(server.as_ref().map(|server| server.url.as_str())).unwrap_or_default();
        let target = Address::new(url, args.token.clone())?;
        Connection::open(&target).await?;
        let names = Names::new(args.streams, args.categories, args.distribution);
        Ok(Self { args, gauge, names, directory, target, noop, server, noop_server, progress })
    }

    fn environment(&self) -> BTreeMap<String, String> {
        let args = self.args;
        let (backend, durability) = match (&args.url, args.backend) {
            (Some(url), _) => (url.as_str(), "as that server is configured"),
            (None, Backend::Sqlite) => ("sqlite", "fsync before each answer"),
            (None, Backend::Memory) => ("memory", "none"),
            (None, Backend::Postgres) => ("postgres", "the database's synchronous_commit"),
        };
        let cores = std::thread::available_parallelism().map_or(0, usize::from).to_string();
        let kernel = rustix::system::uname();
        let git = std::process::Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
        let commit =
            git.ok().filter(|output| output.status.success()).and_then(|output| String::from_utf8(output.stdout).ok());
        let build = if cfg!(debug_assertions) { "debug: figures mean nothing" } else { "release" };
        let sizes = format!("{} bytes, {} streams, {} categories", args.size, args.streams, args.categories);
        let pairs = [
            ("backend", backend.to_owned()),
            ("durability", durability.to_owned()),
            ("version", eventodb_schema::VERSION.to_owned()),
            ("commit", commit.map_or_else(|| "unknown".to_owned(), |commit| commit.trim().to_owned())),
            ("build", build.to_owned()),
            ("cores", cores),
            ("kernel", kernel.release().to_string_lossy().into_owned()),
            ("load before", format!("{:.2}", load_average())),
            ("messages", sizes),
            ("preloaded", args.preload.to_string()),
            ("rounds", format!("{} of {} s after {} s", args.rounds, args.duration, args.warm_up)),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Puts messages in place, at full speed.
    async fn preload(&self) -> anyhow::Result<()> {
        const LANES: u64 = 4;
        let reads = self.args.scenarios.iter().any(|scenario| scenario.needs_messages() || scenario.writes());
        if !reads || self.args.preload == 0 {
            return Ok(());
        }
        self.progress.runs(&format!("{} messages put in place", self.args.preload));
        let share = |n| self.args.preload / LANES + u64::from(n < self.args.preload % LANES);
        let lanes = (0..LANES).map(|n| Fill::new(&self.target, &self.names, share(n), self.args.size, n, LANES));
        let plan = Plan { warm_up: Duration::ZERO, duration: Duration::MAX / 4, count: None, least: 0, rate: None };
        let plan = Plan { duration: Duration::from_secs(24 * 3600), ..plan };
        let loaded = load::run(&self.target, plan, lanes.collect(), Arc::clone(&self.gauge)).await?;
        if let Some(error) = loaded.measured.first_error {
            anyhow::bail!("cannot preload (--preload 0 does without): {error}");
        }
        self.settle(Instant::now()).await;
        Ok(())
    }

    async fn settle(&self, since: Instant) -> f64 {
        match self.server.as_ref().and_then(Server::pid) {
            Some(pid) if self.args.backend != Backend::Postgres => {
                settle(pid).await.saturating_duration_since(since).as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// All rounds of a scenario, each after one of its ceiling.
    async fn row(&self, scenario: Scenario, connections: u64) -> anyhow::Result<Row> {
        let name = match scenario.has_connections() {
            true => format!("{}@{connections}", scenario.name()),
            false => scenario.name(),
        };
        if let Some(why) = self.lacks(scenario).await? {
            return Ok(Row::skipped(name, why));
        }
        // The pace of a load with a rate is its own, and no share of anything.
        let has_ceiling = scenario.has_connections() && scenario != Scenario::Noop && self.args.rate.is_none();
        let rate = self.rate(scenario);
        let mut row = Row { name, rate, is_ceiling: scenario.is_ceiling(), ..Row::default() };
        let mut ratios = Vec::new();
        for round in 0..self.args.rounds {
            self.progress.runs(&format!("{}, round {} of {}", row.name, round + 1, self.args.rounds));
            let ceiling = match has_ceiling {
                true => Some(self.round(Scenario::Noop, connections, round).await?.0.figures.ops),
                false => None,
            };
            if self.gauge.is_stopped() {
                break;
            }
            let (measured, errors, first_error) = self.round(scenario, connections, round).await?;
            ratios.extend(ceiling.filter(|&ops| ops > 0.0).map(|ops| measured.figures.ops / ops));
            row.push(measured, errors, first_error);
            self.progress.round_is_done();
        }
        if row.rounds.is_empty() {
            return Ok(Row::skipped(row.name, "broken off before its first round".to_owned()));
        }
        row.of_noop = (!ratios.is_empty()).then(|| median(ratios));
        Ok(row)
    }

    /// Why the server cannot run a scenario.
    async fn lacks(&self, scenario: Scenario) -> anyhow::Result<Option<String>> {
        if scenario != Scenario::Append {
            return Ok(None);
        }
        // Without arguments it is refused in any case; the question is how.
        let mut connection = Connection::open(&self.target).await?;
        let reply = connection.exchange(self.target.call(r#"["stream.append"]"#).bytes()).await?;
        let is_unknown = reply.status == 404 || memchr::memmem::find(reply.body, b"METHOD_NOT_FOUND").is_some();
        Ok(is_unknown.then(|| "the server does not know stream.append".to_owned()))
    }

    async fn round(
        &self,
        scenario: Scenario,
        connections: u64,
        round: u32,
    ) -> anyhow::Result<(Round, u64, Option<String>)> {
        let server = match scenario {
            Scenario::Noop => self.noop_server.pid(),
            Scenario::Fsync => None,
            _ => self.server.as_ref().and_then(Server::pid),
        };
        let used = || {
            let of = |pid: u32| cpu(pid).unwrap_or_default().as_secs_f64();
            (of(std::process::id()), server.map_or(0.0, of))
        };
        let resident = resident::Watch::begin(server, self.plan(scenario).warm_up);
        let (before, begin) = (used(), Instant::now());
        let loaded = self.load(scenario, connections, round).await?;
        let (after, ended) = (used(), Instant::now());
        let resident = resident.end().await;
        let settle_s = if scenario.writes() { self.settle(ended).await } else { 0.0 };
        let wall_s = (ended - begin).as_secs_f64();
        let cost = Cost { generator_s: after.0 - before.0, server_s: after.1 - before.1, settle_s, wall_s };
        let (errors, first_error) = (loaded.measured.errors, loaded.measured.first_error.clone());
        Ok((Round::new(&loaded, cost, resident), errors, first_error))
    }

    async fn load(&self, scenario: Scenario, connections: u64, round: u32) -> anyhow::Result<Loaded> {
        let (args, target, names) = (self.args, &self.target, &self.names);
        let (gauge, seed) = (Arc::clone(&self.gauge), args.seed.wrapping_add(u64::from(round)));
        let plan = self.plan(scenario);
        let constant = |address: &Address, body: &str| vec![Constant(address.call(body)); connections as usize];
        match scenario {
            Scenario::Noop => {
                let body = r#"["stream.write","bench0000-00000000",{"type":"Deposited","data":{"amount":1234}}]"#;
                load::run(&self.noop, plan, constant(&self.noop, body), gauge).await
            }
            Scenario::Fsync => fsync::run(self.directory.path(), plan.duration, gauge).await,
            Scenario::SysVersion => load::run(target, plan, constant(target, r#"["sys.version"]"#), gauge).await,
            Scenario::Write => {
                let kind = Kind {
                    size: args.size,
                    expects_version: args.expected_version,
                    client_ids: args.client_ids,
                    one_stream: args.one_stream,
                };
                // Ids and streams of an earlier run must not come again.
                let run = uuid::Uuid::now_v7().simple().to_string();
                let seed = if args.client_ids { uuid::Uuid::new_v4().as_u64_pair().0 } else { seed };
                let lanes = (0..connections).map(|n| Write::new(target, names, kind, seed, n, &run)).collect();
                load::run(target, plan, lanes, gauge).await
            }
            Scenario::Append => {
                let lane = |n| Append::new(target, names, args.batch, args.size, seed, n);
                load::run(target, plan, (0..connections).map(lane).collect(), gauge).await
            }
            Scenario::StreamGet => self.read(Place::Stream, connections, plan, seed).await,
            Scenario::CategoryTail => self.read(Place::Tail(2_000), connections, plan, seed).await,
            Scenario::CategoryGet => self.read(Place::Anywhere, connections, plan, seed).await,
            Scenario::CategoryMember => self.read(Place::Member(args.group_size), connections, plan, seed).await,
            Scenario::CatchUp => load::run(target, plan, vec![catch_up::Pages::new(target)], gauge).await,
            Scenario::CatchUpSse => catch_up::subscribe(target, self.head().await?, gauge).await,
            Scenario::Poke | Scenario::FanOut => {
                let categories = if scenario == Scenario::Poke { args.categories } else { 1 };
                let names = Names::new(categories, categories, crate::Distribution::Uniform);
                let rate = self.rate(scenario).expect("pokes are written at a rate");
                let (duration, size, subscribers) = (plan.duration, args.size, args.subscribers);
                poke::run(target, poke::Plan { subscribers, names, rate, duration, size }, gauge).await
            }
        }
    }

    async fn read(&self, place: Place, connections: u64, plan: Plan, seed: u64) -> anyhow::Result<Loaded> {
        let head = self.head().await?;
        let lanes = (0..connections).map(|n| Read::new(&self.target, &self.names, place, head, seed, n)).collect();
        load::run(&self.target, plan, lanes, Arc::clone(&self.gauge)).await
    }

    async fn head(&self) -> anyhow::Result<u64> {
        Ok(u64::try_from(poke::head(&self.target).await?)?)
    }

    fn plan(&self, scenario: Scenario) -> Plan {
        let args = self.args;
        let usual = if args.url.is_none() && args.backend == Backend::Sqlite { LEAST_ON_SQLITE } else { 0 };
        let is_whole = scenario == Scenario::CatchUp;
        Plan {
            warm_up: Duration::from_secs_f64(if is_whole || args.count.is_some() { 0.0 } else { args.warm_up }),
            duration: Duration::from_secs_f64(if is_whole { 3_600.0 } else { args.duration }),
            count: args.count.filter(|_| !is_whole),
            least: if scenario.writes() { args.least.unwrap_or(usual) } else { 0 },
            rate: self.rate(scenario),
        }
    }

    /// Requests a second that a scenario sends; without one as many as are answered.
    fn rate(&self, scenario: Scenario) -> Option<f64> {
        const POKED: f64 = 100.0;
        match scenario {
            Scenario::Noop | Scenario::Fsync | Scenario::CatchUp | Scenario::CatchUpSse => None,
            Scenario::Poke | Scenario::FanOut => Some(self.args.rate.unwrap_or(POKED)),
            _ => self.args.rate,
        }
    }
}

fn serve_arguments(args: &Args, directory: &std::path::Path) -> anyhow::Result<Vec<String>> {
    let mut line: Vec<String> =
        ["serve", "--port", "0", "--log-level", "error"].into_iter().map(str::to_owned).collect();
    // A file without --test-mode would want a token, and --test-mode alone keeps everything in memory.
    line.push("--test-mode".to_owned());
    match args.backend {
        Backend::Memory => {}
        Backend::Sqlite => line.extend([
            "--data-dir".to_owned(),
            directory.display().to_string(),
            "--db-url".to_owned(),
            "sqlite://eventodb.db".to_owned(),
        ]),
        Backend::Postgres => {
            let url = args.db_url.clone().context("--backend postgres needs --db-url")?;
            line.extend(["--db-url".to_owned(), url]);
        }
    }
    Ok(line)
}

/// Processes that wanted a core in the last minute: what else ran shows in the figures.
fn load_average() -> f64 {
    // Fixed-point numbers; source: getloadavg(3) of Linux, sysinfo(2).
    const ONE: f64 = 65_536.0;
    rustix::system::sysinfo().loads[0] as f64 / ONE
}

/// How many rounds a run has, without those of ceilings beside them.
fn rounds(args: &Args) -> u64 {
    let each = |scenario: &Scenario| if scenario.has_connections() { args.connections.len() as u64 } else { 1 };
    args.scenarios.iter().map(each).sum::<u64>() * u64::from(args.rounds)
}
