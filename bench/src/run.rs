//! A whole run: the cases and their rounds, each measured in turn with the cases that it is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::Distribution;
use crate::args::{Args, Backend, CROWD, CROWD_BUDGET_MIB};
use crate::block::{blocks, references};
use crate::clock::Clock;
use crate::environment::environment;
use crate::grow;
use crate::measure::Gauge;
use crate::plan;
use crate::progress::Progress;
use crate::report::{Figures, Report, Round, Row, median};
use crate::scenario::{Case, Scenario, Turn, Width};
use crate::session::Session;
use crate::target::{self, Extent};

type Keep<'a> = dyn FnMut(&Report) -> anyhow::Result<()> + 'a;

/// Measures what was asked for and `earlier` does not have; `keep` receives the report so far after each scenario.
///
/// Ctrl-C ends the run with the figures so far, a second one at once.
///
/// # Errors
/// A server does not start or cannot be reached, or the run was ended at once.
pub async fn run(args: &Args, earlier: Option<Report>, keep: &mut Keep<'_>) -> anyhow::Result<Report> {
    raise_file_limit();
    let gauge = Arc::new(Gauge::default());
    let environment = environment(args);
    let done = earlier.filter(|earlier| earlier.is_of(&environment)).map_or_else(Vec::new, Report::into_results);
    let cases: Vec<Case> = cases(args).into_iter().filter(|case| !is_among(args, *case, &done)).collect();
    let rounds = cases.iter().map(|case| u64::from(plan::rounds(args, case.scenario))).sum();
    let progress = Progress::begin(Arc::clone(&gauge), rounds)?;
    let report = Report { environment, rows: done, interrupted: false };
    let measured = progress.unless_ended_at_once(measure(args, cases, gauge, report, keep, &progress)).await;
    drop(progress);
    measured.context("ended at once: what was not written to a file is lost")?
}

/// Lets this process, and those that it starts, open as many files as the system allows: ten thousand connections need
/// more than the usual limit. If it cannot be raised, connections beyond it fail and say why.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

async fn measure(
    args: &Args,
    cases: Vec<Case>,
    gauge: Arc<Gauge>,
    mut report: Report,
    keep: &mut Keep<'_>,
    progress: &Progress,
) -> anyhow::Result<Report> {
    if cases.is_empty() {
        return Ok(report);
    }
    let mut session = Session::start(args, gauge).await?;
    // Servers, databases and files are removed even after an error.
    let measured = fill_report(&mut session, &cases, &mut report, keep, progress).await;
    session.stop().await?;
    measured.map(|()| report)
}

async fn fill_report(
    session: &mut Session,
    cases: &[Case],
    report: &mut Report,
    keep: &mut Keep<'_>,
    progress: &Progress,
) -> anyhow::Result<()> {
    let gauge = Arc::clone(&session.gauge);
    for block in blocks(cases, session.hosts.backend()) {
        // The first block tells where an interrupted run stopped, even without figures; later ones have nothing to tell.
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
        report.sort(&self::cases(&session.args).iter().map(ToString::to_string).collect::<Vec<_>>());
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
    let widths = |scenario: Scenario| match (scenario.spec().width, ramped) {
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

/// The row of a case without figures.
fn unmeasured(case: Case, error: &anyhow::Error, gauge: &Gauge) -> Row {
    match gauge.is_stopped() {
        true => Row::skipped(case.to_string(), format!("{error:#}")),
        // The others are measured all the same.
        false => Row::failed(case.to_string(), error),
    }
}

/// The cases that a case is measured beside: those that its targets speak of, and the no-op ceiling at the same width.
pub(crate) fn others(args: &Args, case: Case, backend: Option<Backend>) -> BTreeSet<Case> {
    let mut others = references(case, backend);
    let scenario = case.scenario;
    // The pace of a load with a rate is given, so that a share of the ceiling's would tell nothing.
    if scenario.has_connections() && scenario != Scenario::Noop && plan::rate(args, scenario).is_none() {
        others.insert(Case::new(Scenario::Noop, case.width));
    }
    others
}

/// A case while its rounds are measured.
struct Held {
    case: Case,
    others: BTreeSet<Case>,
    row: Row,
    /// For each round the cases that were measured beside it.
    beside: Vec<BTreeMap<Case, Round>>,
    /// The cases that were measured for a round that did not come.
    unfinished: BTreeMap<Case, Round>,
    failed: Option<anyhow::Error>,
}

/// The rows of cases that take turns in each round.
async fn rows(session: &mut Session, block: &[Case], progress: &Progress) -> Vec<Row> {
    let (mut rows, mut turns) = (Vec::new(), Vec::new());
    for &case in block {
        progress.runs(&format!("{case} is prepared"));
        match prepared(session, case).await {
            Ok(Ok(held)) => turns.push(held),
            Ok(Err(why)) => rows.push(Row::skipped(case.to_string(), why)),
            Err(error) => rows.push(unmeasured(case, &error, &session.gauge)),
        }
    }
    let most = turns.iter().map(|held| plan::rounds(&session.args, held.case.scenario)).max().unwrap_or(0);
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

/// A case with everything in place, or why it cannot be measured here.
async fn prepared(session: &mut Session, case: Case) -> anyhow::Result<Result<Held, String>> {
    if let Some(why) = session.lacks(case.scenario).await? {
        return Ok(Err(why));
    }
    let others = others(&session.args, case, session.hosts.backend());
    // Before the first round, so that the rounds are close together.
    for other in others.iter().chain([&case]) {
        session.prepare(other.scenario).await?;
    }
    session.gauge.go_on(|| format!("{case} was prepared"))?;
    let (rate, is_ceiling) = (plan::rate(&session.args, case.scenario), case.scenario.is_ceiling());
    let row = Row { name: case.to_string(), rate, is_ceiling, ..Row::default() };
    Ok(Ok(Held { case, others, row, beside: Vec::new(), unfinished: BTreeMap::new(), failed: None }))
}

impl Held {
    /// One round, after one of everything that it is compared with.
    async fn turn(
        &mut self,
        session: &mut Session,
        number: u32,
        measured: &mut BTreeMap<Case, Round>,
        progress: &Progress,
    ) -> anyhow::Result<()> {
        for &other in &self.others {
            progress.runs(&format!("{other} for {}, round {}", self.case, number + 1));
            self.unfinished.insert(other, once(session, other, number, measured).await?);
            session.gauge.go_on(|| format!("{other} was measured for it"))?;
        }
        progress.runs(&format!("{}, round {}", self.case, number + 1));
        self.row.push(once(session, self.case, number, measured).await?);
        self.beside.push(std::mem::take(&mut self.unfinished));
        Ok(())
    }

    /// Its row; for a case without a round, also the rows of the cases that were measured for it.
    fn end(mut self, session: &Session) -> Vec<Row> {
        let gauge = &session.gauge;
        if let Some(error) = self.failed.take_if(|_| !gauge.is_stopped()) {
            return vec![unmeasured(self.case, &error, gauge)];
        }
        if self.row.rounds.is_empty() {
            let error = self.failed.unwrap_or_else(|| anyhow::anyhow!("broken off before its first round"));
            let ceilings = self.unfinished.into_iter().map(|(other, round)| {
                let name = format!("{other} for {}", self.case);
                let is_ceiling = other.scenario.is_ceiling();
                let mut row = Row { name, is_ceiling, is_interrupted: true, ..Row::default() };
                row.push(round);
                row
            });
            return [unmeasured(self.case, &error, gauge)].into_iter().chain(ceilings).collect();
        }
        vec![self.judged(session)]
    }

    /// Its row with the verdicts on its targets.
    fn judged(self, session: &Session) -> Row {
        let (mut row, beside) = (self.row, self.beside);
        row.is_interrupted = session.gauge.is_stopped();
        row.of_noop = share(&row.rounds, &beside, Case::new(Scenario::Noop, self.case.width));
        row.beside = medians(&beside);
        let held: Vec<_> = row.rounds.iter().zip(&beside).collect();
        let extent = extent(&session.args, self.case);
        let extent = Extent { is_usual: extent.is_usual && !row.is_interrupted, ..extent };
        let targets = target::targets(self.case, session.hosts.backend());
        let verdicts = targets.iter().filter_map(|target| target.verdict(&held, extent)).collect();
        // With a ceiling that failed, every figure that is compared with it is no result.
        for (case, round) in beside.iter().flatten().filter(|(_, round)| round.errors > 0) {
            row.errors += round.errors;
            row.first_error.get_or_insert_with(|| format!("{case}: {:?}", round.first_error));
        }
        row.judge(verdicts);
        row
    }
}

/// A round of a case. A ceiling is measured anew for each case; other cases that were `measured` in the same round are
/// not.
async fn once(
    session: &mut Session,
    case: Case,
    number: u32,
    measured: &mut BTreeMap<Case, Round>,
) -> anyhow::Result<Round> {
    if let Some(round) = measured.get(&case) {
        return Ok(round.clone());
    }
    let round = round(session, case, number).await?;
    if !case.scenario.is_ceiling() {
        measured.insert(case, round.clone());
    }
    Ok(round)
}

/// Requests a second as a share of the no-op ceiling's, round by round.
fn share(rounds: &[Round], beside: &[BTreeMap<Case, Round>], noop: Case) -> Option<f64> {
    let ratios = rounds.iter().zip(beside).filter_map(|(round, beside)| {
        let ceiling = beside.get(&noop)?.figures.ops;
        (ceiling > 0.0).then(|| round.figures.ops / ceiling)
    });
    median(ratios)
}

fn medians(beside: &[BTreeMap<Case, Round>]) -> BTreeMap<String, Figures> {
    let of = |case| Figures::median(beside.iter().filter_map(|round| Some(round.get(case)?.figures)));
    beside.iter().flat_map(BTreeMap::keys).map(|case| (case.to_string(), of(case))).collect()
}

/// Whether a run is as large and as long as the targets speak of.
pub(crate) fn extent(args: &Args, case: Case) -> Extent {
    let is_usual = !cfg!(debug_assertions)
        && plan::is_long_enough(args, case.scenario)
        && args.count.is_none()
        && args.rate.is_none()
        && args.subscribers.is_none_or(|subscribers| subscribers == case.scenario.spec().subscribers)
        && args.ramp.is_empty()
        && (60..=70).contains(&args.size)
        && (args.streams, args.categories, args.distribution) == (5_000, 20, Distribution::Uniform)
        && (args.many_streams, args.namespaces) == (1_000_000, 5_000)
        && (args.crowd, args.crowd_budget_mib) == (CROWD, CROWD_BUDGET_MIB)
        && (args.batch, args.group_size) == (100, 8);
    let preload = if case.scenario.is_about_size() { plan::large(args) } else { args.preload };
    Extent { preload, is_usual }
}

/// One round of a case.
pub(crate) async fn round(session: &mut Session, case: Case, number: u32) -> anyhow::Result<Round> {
    // Messages are put in place before the clock runs.
    session.prepare(case.scenario).await?;
    let server = case.scenario.server(session).await?;
    let plan = plan::plan(&session.args, session.hosts.backend(), case);
    let seed = session.args.seed.wrapping_add(u64::from(number));
    let clock = Clock::begin(server, &plan);
    let loaded = (case.scenario.spec().run)(Turn { session, case, plan, seed }).await?;
    if loaded.measured.latencies.is_empty() {
        session.gauge.go_on(|| format!("{case} warmed up"))?;
    }
    clock.end(&loaded, case.scenario.spec().writes.then_some(&session.main)).await
}
