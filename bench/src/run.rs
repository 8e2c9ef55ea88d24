//! A whole run: the cases and their rounds, each in turn with what it is held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::Distribution;
use crate::args::{Args, Backend};
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

/// Measures what was asked for; Ctrl-C ends it with what there is.
///
/// # Errors
/// A server does not start or cannot be reached.
pub async fn run(args: &Args) -> anyhow::Result<Report> {
    files::raise_limit();
    let gauge = Arc::new(Gauge::default());
    let cases = cases(args);
    let rounds = cases.iter().map(|case| u64::from(rounds(args, *case))).sum();
    let progress = Progress::begin(Arc::clone(&gauge), rounds);
    let mut session = Session::start(args, Arc::clone(&gauge)).await?;
    let mut report = Report { environment: environment(args), ..Report::default() };
    for case in cases {
        if gauge.is_stopped() {
            break;
        }
        let rows = match case.scenario {
            Scenario::Grow => grow::rows(&mut session, &progress).await,
            _ => row(&mut session, case, &progress).await.map(|row| vec![row]),
        };
        // One that cannot be measured shall not cost the others.
        report.rows.extend(rows.unwrap_or_else(|error| vec![Row::failed(case.to_string(), &error)]));
    }
    report.interrupted = gauge.is_stopped();
    progress.end();
    session.stop().await?;
    Ok(report)
}

/// Each scenario at each of its widths.
fn cases(args: &Args) -> Vec<Case> {
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

fn rounds(args: &Args, case: Case) -> u32 {
    if case.scenario.is_long() { 1 } else { args.rounds }
}

/// All rounds of a case, each after those of what it is held against.
async fn row(session: &mut Session<'_>, case: Case, progress: &Progress) -> anyhow::Result<Row> {
    let (args, scenario) = (session.args, case.scenario);
    if let Some(why) = session.lacks(scenario).await? {
        return Ok(Row::skipped(case.to_string(), why));
    }
    let targets = target::targets(case, session.hosts.backend());
    let mut others: Vec<Case> = targets.iter().flat_map(|target| target.beside()).collect();
    // The pace of a load with a rate is its own, and no share of anything.
    let noop = Case::new(Scenario::Noop, case.width);
    if scenario.has_connections() && scenario != Scenario::Noop && plan::rate(args, scenario).is_none() {
        others.push(noop);
    }
    others.sort_unstable();
    others.dedup();

    let (rate, is_ceiling) = (plan::rate(args, scenario), scenario.is_ceiling());
    let mut row = Row { name: case.to_string(), rate, is_ceiling, ..Row::default() };
    let mut beside: Vec<Vec<(Case, Round)>> = Vec::new();
    for number in 0..rounds(args, case) {
        let mut before = Vec::new();
        for &other in &others {
            progress.runs(&format!("{other} for {case}, round {}", number + 1));
            before.push((other, round(session, other, number).await?));
        }
        if session.gauge.is_stopped() {
            break;
        }
        progress.runs(&format!("{case}, round {} of {}", number + 1, rounds(args, case)));
        let measured = round(session, case, number).await?;
        row.push(measured);
        beside.push(before);
        progress.round_is_done();
    }
    if row.rounds.is_empty() {
        return Ok(Row::skipped(row.name, "broken off before its first round".to_owned()));
    }
    row.of_noop = share(&row.rounds, &beside, noop);
    row.beside = medians(&beside);
    let held: Vec<_> = row.rounds.iter().zip(beside.iter().map(Vec::as_slice)).collect();
    let extent = extent(args, case);
    let verdicts = targets.iter().filter_map(|target| target.verdict(&held, extent)).collect();
    // A ceiling that failed makes everything that is held against it no result.
    for failed in beside.iter().flatten().filter(|(_, round)| round.errors > 0) {
        row.errors += failed.1.errors;
        row.first_error.get_or_insert_with(|| format!("{}: {:?}", failed.0, failed.1.first_error));
    }
    row.judge(verdicts);
    Ok(row)
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
    let usual = case.scenario.usual_duration().as_secs_f64();
    let is_usual = !cfg!(debug_assertions)
        && args.duration.is_none_or(|duration| duration >= usual)
        && (args.rounds >= 3 || case.scenario.is_long())
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
///
/// # Errors
/// It cannot be measured at all.
pub(crate) async fn round(session: &mut Session<'_>, case: Case, number: u32) -> anyhow::Result<Round> {
    // What must be in place is put there before the clock runs.
    session.prepare(case.scenario).await?;
    let server = match case.scenario {
        Scenario::Noop => session.noop_server.pid(),
        scenario if scenario.is_ceiling() || scenario.has_own_server() => None,
        scenario if scenario.is_about_size() => session.large().await?.pid(),
        _ => session.main.pid(),
    };
    let clock = Clock::begin(server, &plan::plan(session.args, session.hosts.backend(), case));
    let loaded = session.load(case, number).await?;
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
