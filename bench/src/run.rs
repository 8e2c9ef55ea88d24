//! A whole run: the cases and their rounds, each in turn with what it is held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use crate::Distribution;
use crate::args::{Args, Backend};
use crate::block::{blocks, references};
use crate::clock::Clock;
use crate::environment::environment;
use crate::files;
use crate::grow;
use crate::measure::Gauge;
use crate::plan;
use crate::progress::Progress;
use crate::report::{Figures, Report, Round, Row, median};
use crate::scenario::{Case, Scenario, Width};
use crate::session::Session;
use crate::target::{self, Extent};

/// Measures what was asked for and `earlier` does not have; `keep` is handed what there is after each scenario.
///
/// Ctrl-C ends it with what there is, a second one at once.
///
/// # Errors
/// A server does not start or cannot be reached, or it was ended at once.
pub async fn run(
    args: &Args,
    earlier: Option<Report>,
    keep: &mut dyn FnMut(&Report) -> anyhow::Result<()>,
) -> anyhow::Result<Report> {
    files::raise_limit();
    let gauge = Arc::new(Gauge::default());
    let environment = environment(args);
    let done = earlier.filter(|earlier| earlier.is_of(&environment)).map_or_else(Vec::new, Report::into_results);
    let cases: Vec<Case> = cases(args).into_iter().filter(|case| !is_among(args, *case, &done)).collect();
    let rounds = cases.iter().map(|case| u64::from(plan::rounds(args, case.scenario))).sum();
    let progress = Progress::begin(Arc::clone(&gauge), rounds)?;
    let report = Report { environment, rows: done, interrupted: false };
    let measured = progress.unless_ended_at_once(measure(args, cases, gauge, report, keep, &progress)).await;
    progress.end();
    measured.context("ended at once: what was not written to a file is lost")?
}

async fn measure(
    args: &Args,
    cases: Vec<Case>,
    gauge: Arc<Gauge>,
    mut report: Report,
    keep: &mut dyn FnMut(&Report) -> anyhow::Result<()>,
    progress: &Progress,
) -> anyhow::Result<Report> {
    if cases.is_empty() {
        return Ok(report);
    }
    let mut session = Session::start(args, Arc::clone(&gauge)).await?;
    // Whatever comes of it, what was made is removed.
    let measured = fill_report(&mut session, &cases, &mut report, keep, progress).await;
    session.stop().await?;
    measured.map(|()| report)
}

async fn fill_report(
    session: &mut Session<'_>,
    cases: &[Case],
    report: &mut Report,
    keep: &mut dyn FnMut(&Report) -> anyhow::Result<()>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let (args, gauge) = (session.args, Arc::clone(&session.gauge));
    for block in blocks(cases, session.hosts.backend()) {
        // What stands first tells where the run was broken off; what comes later has nothing to tell.
        if gauge.is_stopped() && !report.rows.is_empty() {
            break;
        }
        report.rows.extend(match block[..] {
            [Case { scenario: Scenario::Grow, .. }] => match grow::rows(session, progress).await {
                Ok(rows) => rows,
                Err(error) => vec![unmeasured(block[0], &error, &gauge)],
            },
            _ => rows(session, &block, progress).await,
        });
        report.interrupted = gauge.is_stopped();
        report.sort(&self::cases(args).iter().map(ToString::to_string).collect::<Vec<_>>());
        keep(report)?;
    }
    report.interrupted = gauge.is_stopped();
    Ok(())
}

/// Each scenario at each of its widths.
pub(crate) fn cases(args: &Args) -> Vec<Case> {
    use clap::ValueEnum as _;
    let scenarios = if args.all { Scenario::value_variants() } else { &args.scenarios };
    let ramped = crate::ramp::Ramp::new(&args.ramp).map(|ramp| ramp.most());
    let widths = |scenario: Scenario| match (scenario.width(), ramped) {
        (Width::Connections(_), Some(most)) => vec![most],
        (Width::Connections(usual), None) if args.connections.is_empty() => usual.to_vec(),
        (Width::Connections(_), None) => args.connections.clone(),
        (Width::Batch(usual), _) => usual.to_vec(),
        (Width::None, _) => vec![1],
    };
    let of = |&scenario: &Scenario| widths(scenario).into_iter().map(move |width| Case::new(scenario, width));
    scenarios.iter().flat_map(of).collect()
}

/// Whether a case has its rows among these.
fn is_among(args: &Args, case: Case, rows: &[Row]) -> bool {
    let names = match case.scenario {
        Scenario::Grow => grow::names(args),
        _ => vec![case.to_string()],
    };
    names.iter().all(|name| rows.iter().any(|row| row.name == *name))
}

/// What there is to say of a case that gave no figures.
fn unmeasured(case: Case, error: &anyhow::Error, gauge: &Gauge) -> Row {
    match gauge.is_stopped() {
        true => Row::skipped(case.to_string(), format!("{error:#}")),
        // One that cannot be measured shall not cost the others.
        false => Row::failed(case.to_string(), error),
    }
}

/// What each case is measured beside: what its targets speak of, and the no-op ceiling at as many connections.
pub(crate) fn others(args: &Args, case: Case, backend: Option<Backend>) -> Vec<Case> {
    let mut others = references(case, backend);
    let scenario = case.scenario;
    // The pace of a load with a rate is its own, and no share of anything.
    if scenario.has_connections() && scenario != Scenario::Noop && plan::rate(args, scenario).is_none() {
        others.push(Case::new(Scenario::Noop, case.width));
    }
    others.sort_unstable();
    others.dedup();
    others
}

/// A case while its rounds are measured.
struct Held {
    case: Case,
    others: Vec<Case>,
    row: Row,
    /// For each round what was measured beside it.
    beside: Vec<Vec<(Case, Round)>>,
    /// What was measured beside a round that did not come.
    unfinished: Vec<(Case, Round)>,
    failed: Option<anyhow::Error>,
}

/// The rows of cases that take turns in each round.
async fn rows(session: &mut Session<'_>, block: &[Case], progress: &Progress) -> Vec<Row> {
    let (mut rows, mut turns) = (Vec::new(), Vec::new());
    for &case in block {
        progress.runs(&format!("{case} is prepared"));
        match prepared(session, case).await {
            Ok(Ok(held)) => turns.push(held),
            Ok(Err(why)) => rows.push(Row::skipped(case.to_string(), why)),
            Err(error) => rows.push(unmeasured(case, &error, &session.gauge)),
        }
    }
    let most = turns.iter().map(|held| plan::rounds(session.args, held.case.scenario)).max().unwrap_or(0);
    for number in 0..most {
        let mut measured: BTreeMap<Case, Round> = BTreeMap::new();
        for held in turns.iter_mut().filter(|held| held.failed.is_none()) {
            if session.gauge.is_stopped() {
                break;
            }
            match held.turn(session, number, &mut measured, progress).await {
                Ok(()) => progress.round_is_done(),
                Err(error) => held.failed = Some(error),
            }
        }
    }
    rows.extend(turns.into_iter().flat_map(|held| held.end(session)));
    rows
}

/// A case with everything in place; or why it cannot be measured here.
async fn prepared(session: &mut Session<'_>, case: Case) -> anyhow::Result<Result<Held, String>> {
    if let Some(why) = session.lacks(case.scenario).await? {
        return Ok(Err(why));
    }
    let others = others(session.args, case, session.hosts.backend());
    // Not between the rounds, which shall be close together.
    for other in others.iter().chain([&case]) {
        session.prepare(other.scenario).await?;
    }
    session.gauge.go_on(|| format!("{case} was prepared"))?;
    let (rate, is_ceiling) = (plan::rate(session.args, case.scenario), case.scenario.is_ceiling());
    let row = Row { name: case.to_string(), rate, is_ceiling, ..Row::default() };
    Ok(Ok(Held { case, others, row, beside: Vec::new(), unfinished: Vec::new(), failed: None }))
}

impl Held {
    /// One round, after one of everything that it is held against. A ceiling is measured anew each time, whatever else
    /// was `measured` in the same round is not.
    async fn turn(
        &mut self,
        session: &mut Session<'_>,
        number: u32,
        measured: &mut BTreeMap<Case, Round>,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        for &other in &self.others {
            let round = match measured.get(&other).filter(|_| !other.scenario.is_ceiling()) {
                Some(round) => round.clone(),
                None => {
                    progress.runs(&format!("{other} for {}, round {}", self.case, number + 1));
                    round(session, other, number).await?
                }
            };
            measured.insert(other, round.clone());
            self.unfinished.push((other, round));
            session.gauge.go_on(|| format!("{other} was measured for it"))?;
        }
        progress.runs(&format!("{}, round {}", self.case, number + 1));
        let round = match measured.get(&self.case) {
            Some(round) => round.clone(),
            None => round(session, self.case, number).await?,
        };
        measured.insert(self.case, round.clone());
        self.row.push(round);
        self.beside.push(std::mem::take(&mut self.unfinished));
        Ok(())
    }

    /// Its row; of a case that has no round, what was measured for it.
    fn end(mut self, session: &Session<'_>) -> Vec<Row> {
        let (args, gauge) = (session.args, &session.gauge);
        if let Some(error) = self.failed.take_if(|_| !gauge.is_stopped()) {
            return vec![unmeasured(self.case, &error, gauge)];
        }
        if self.row.rounds.is_empty() {
            let error = self.failed.unwrap_or_else(|| anyhow::anyhow!("broken off before its first round"));
            let ceilings = self.unfinished.into_iter().map(|(other, round)| {
                let mut row = Row { is_ceiling: other.scenario.is_ceiling(), ..Row::default() };
                row.name = format!("{other} for {}", self.case);
                row.is_interrupted = true;
                row.push(round);
                row
            });
            return [unmeasured(self.case, &error, gauge)].into_iter().chain(ceilings).collect();
        }
        let (mut row, beside) = (self.row, self.beside);
        row.is_interrupted = gauge.is_stopped();
        row.of_noop = share(&row.rounds, &beside, Case::new(Scenario::Noop, self.case.width));
        row.beside = medians(&beside);
        let held: Vec<_> = row.rounds.iter().zip(beside.iter().map(Vec::as_slice)).collect();
        let extent = extent(args, self.case);
        let extent = Extent { is_usual: extent.is_usual && !row.is_interrupted, ..extent };
        let targets = target::targets(self.case, session.hosts.backend());
        let verdicts = targets.iter().filter_map(|target| target.verdict(&held, extent)).collect();
        // A ceiling that failed makes everything that is held against it no result.
        for failed in beside.iter().flatten().filter(|(_, round)| round.errors > 0) {
            row.errors += failed.1.errors;
            row.first_error.get_or_insert_with(|| format!("{}: {:?}", failed.0, failed.1.first_error));
        }
        row.judge(verdicts);
        vec![row]
    }
}

/// Requests a second as a share of the no-op ceiling's, round by round.
fn share(rounds: &[Round], beside: &[Vec<(Case, Round)>], noop: Case) -> Option<f64> {
    let ratios = rounds.iter().zip(beside).filter_map(|(round, beside)| {
        let ceiling = beside.iter().find(|(case, _)| *case == noop)?.1.figures.ops;
        (ceiling > 0.0).then(|| round.figures.ops / ceiling)
    });
    let ratios: Vec<f64> = ratios.collect();
    (!ratios.is_empty()).then(|| median(ratios))
}

fn medians(beside: &[Vec<(Case, Round)>]) -> BTreeMap<String, Figures> {
    let cases = beside.first().into_iter().flatten().map(|(case, _)| *case);
    let of = |wanted: Case| {
        let rounds = beside.iter().flatten().filter(move |(case, _)| *case == wanted);
        Figures::median(rounds.map(|(_, round)| round.figures))
    };
    cases.map(|case| (case.to_string(), of(case))).collect()
}

/// Whether a run is as large and as long as the targets speak of.
pub(crate) fn extent(args: &Args, case: Case) -> Extent {
    let is_usual = !cfg!(debug_assertions)
        && plan::is_long_enough(args, case.scenario)
        && args.count.is_none()
        && args.rate.is_none()
        && args.subscribers.is_none_or(|subscribers| subscribers == case.scenario.usual_subscribers())
        && args.ramp.is_empty()
        && (60..=70).contains(&args.size)
        && (args.streams, args.categories, args.distribution) == (5_000, 20, Distribution::Uniform)
        && (args.many_streams, args.namespaces) == (1_000_000, 5_000)
        && (args.batch, args.group_size) == (100, 8);
    let preload = if case.scenario.is_about_size() { plan::large(args) } else { args.preload };
    Extent { preload, is_usual }
}

/// One round of a case.
pub(crate) async fn round(session: &mut Session<'_>, case: Case, number: u32) -> anyhow::Result<Round> {
    // What must be in place is put there before the clock runs.
    session.prepare(case.scenario).await?;
    let server = match case.scenario {
        Scenario::Noop => session.noop_server.as_ref().and_then(crate::host::Server::pid),
        scenario if scenario.is_ceiling() || scenario.has_own_server() => None,
        scenario if scenario.is_about_size() => session.large().await?.host.pid(),
        _ => session.main.pid(),
    };
    let clock = Clock::begin(server, &plan::plan(session.args, session.hosts.backend(), case));
    let loaded = session.load(case, number).await?;
    if loaded.measured.latencies.is_empty() {
        session.gauge.go_on(|| format!("{case} warmed up"))?;
    }
    clock.end(&loaded, case.scenario.writes().then_some(&session.main)).await
}

impl Backend {
    /// Its name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Memory => "memory",
            Self::Postgres => "postgres",
        }
    }
}
