//! The plan of a run, and about how long it takes.
//!
//! The paces assumed here are those of an idle machine with two cores. Only the plan uses them, no figure does.

use std::fmt::Write as _;
use std::time::Duration;

use crate::args::{Args, Backend};
use crate::block::blocks;
use crate::plan::{large, plan, rounds};
use crate::run::{cases, others};
use crate::scenario::{Case, Scenario};

/// Parts of a round of `grow`: each a no-op, and then each size.
const GROW_PARTS: u32 = 4;
/// Time between the last answer of a load and the next load: for connections, and for the index that catches up.
const BETWEEN: Duration = Duration::from_millis(700);
/// Messages a second of a reader that catches up.
const READ: f64 = 400_000.0;
/// Namespaces that are made a second.
const NAMESPACES: f64 = 250.0;

/// A line for each scenario: how long it takes, its rounds, and the cases that take turns with it; the sum at the end.
pub fn outline(args: &Args) -> String {
    let mut text = String::new();
    let (measured, preparing) = (measuring(args), preparation(args));
    for (what, how, duration) in &measured {
        let _ = writeln!(text, "{:>8}  {what:<24} {how}", minutes(*duration));
    }
    for (what, duration) in &preparing {
        let _ = writeln!(text, "{:>8}  {what}", minutes(*duration));
    }
    let _ = writeln!(text, "{:>8}  in all, on an idle machine with two cores", minutes(whole(args)));
    text
}

fn whole(args: &Args) -> Duration {
    let measured = measuring(args).into_iter().map(|(_, _, duration)| duration);
    measured.chain(preparation(args).into_iter().map(|(_, duration)| duration)).sum()
}

fn backend(args: &Args) -> Option<Backend> {
    args.url.is_none().then_some(args.backend)
}

fn possible(args: &Args) -> Vec<Case> {
    let backend = backend(args);
    let is_possible = |case: &Case| case.scenario.lacks(backend).is_none();
    cases(args).into_iter().filter(is_possible).collect()
}

fn measuring(args: &Args) -> Vec<(String, String, Duration)> {
    let mut found = Vec::new();
    for block in blocks(&possible(args), backend(args)) {
        let mut in_turn: Vec<Case> = Vec::new();
        for case in block {
            let mut beside = others(args, case, backend(args));
            beside.retain(|other| other.scenario.is_ceiling() || !in_turn.contains(other));
            in_turn.extend(beside.iter().copied().chain([case]));
            let one = turn(args, case) + beside.iter().map(|&other| turn(args, other)).sum::<Duration>();
            let texts: Vec<String> = beside.iter().map(ToString::to_string).collect();
            let after = if texts.is_empty() { String::new() } else { format!(", each after {}", texts.join(", ")) };
            let rounds = rounds(args, case.scenario);
            let how = format!("{rounds} × {:.0} s{after}", turn(args, case).as_secs_f64());
            found.push((case.to_string(), how, one * rounds));
        }
    }
    found
}

/// One round of a case alone.
fn turn(args: &Args, case: Case) -> Duration {
    let plan = plan(args, backend(args), case);
    let paced = plan.warm_up + plan.duration + BETWEEN;
    match case.scenario {
        Scenario::CatchUp | Scenario::GroupRead => Duration::from_secs_f64(args.preload as f64 / READ),
        Scenario::CatchUpSse | Scenario::Rare | Scenario::Start => Duration::from_secs(1),
        Scenario::Grow => {
            let sizes = u32::try_from(args.sizes.len()).unwrap_or(u32::MAX);
            (paced * sizes + turn(args, Case::new(Scenario::Noop, 1))) * GROW_PARTS
        }
        scenario if scenario.is_ceiling() && scenario != Scenario::Noop => plan.duration + BETWEEN,
        _ => paced,
    }
}

/// The messages and namespaces that are put in place, once for all scenarios.
fn preparation(args: &Args) -> Vec<(String, Duration)> {
    let backend = backend(args);
    let with_others = |case: Case| others(args, case, backend).into_iter().chain([case]);
    let needed: Vec<Scenario> = possible(args).into_iter().flat_map(with_others).map(|case| case.scenario).collect();
    let has = |scenario: Scenario| needed.contains(&scenario);
    let any = |is_it: fn(Scenario) -> bool| needed.iter().any(|&scenario| is_it(scenario));
    let grown = args.sizes.iter().max().copied().filter(|_| has(Scenario::Grow)).unwrap_or_default();
    let ceilings = [Scenario::SqliteRaw, Scenario::SqliteLogIndex, Scenario::PgRaw];
    let ceilings = ceilings.into_iter().filter(|ceiling| has(*ceiling)).count() as u64;
    let parts = [
        ("the log", args.preload, any(Scenario::needs_messages)),
        ("very many streams", args.preload, has(Scenario::WriteMillion)),
        ("the ceilings", ceilings * args.preload, true),
        ("the sizes of grow, twice", 2 * args.sizes.iter().sum::<u64>(), has(Scenario::Grow)),
        ("the larger log", large(args), any(Scenario::is_about_size) && grown < large(args)),
    ];
    let pace = match backend {
        Some(Backend::Memory) => 150_000.0,
        Some(Backend::Sqlite) => 110_000.0,
        Some(Backend::Postgres) | None => 45_000.0,
    };
    let placed = parts.into_iter().filter(|&(_, messages, is_needed)| is_needed && messages > 0);
    let placed = placed.map(|(what, messages, _)| {
        (format!("{messages} messages put in place: {what}"), Duration::from_secs_f64(messages as f64 / pace))
    });
    let namespaces = (has(Scenario::NsList) || has(Scenario::Namespaces)).then(|| {
        (format!("{} namespaces made", args.namespaces), Duration::from_secs_f64(args.namespaces as f64 / NAMESPACES))
    });
    placed.chain(namespaces).collect()
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    format!("{}:{:02} min", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::parsed;

    fn args(line: &[&str]) -> Args {
        parsed(line).unwrap()
    }

    #[test]
    fn a_peer_is_counted_once_a_round_and_a_ceiling_each_time() {
        let seconds = |line: &[&str]| measuring(&args(line)).iter().map(|(_, _, of)| of.as_secs_f64()).sum::<f64>();
        let (plain, expected) = (seconds(&["write", "--connections", "64"]), seconds(&["write-expected"]));
        let both = seconds(&["write", "write-expected", "--connections", "64"]);
        assert!(both < plain + expected && both > expected, "{plain} {expected} {both}");
    }

    #[test]
    fn what_cannot_be_measured_takes_no_time() {
        assert_eq!(whole(&args(&["two-servers", "pg-raw"])), Duration::ZERO);
        assert!(whole(&args(&["two-servers", "--backend", "postgres"])) > Duration::from_secs(30));
        assert_eq!(whole(&args(&["soak", "--url", "http://127.0.0.1:1"])), Duration::ZERO);
    }

    #[test]
    fn the_larger_log_is_that_of_grow_where_both_are_measured() {
        let size = ["--preload", "2000000", "rare"];
        let texts = |line: &[&str]| outline(&args(line));
        assert!(texts(&size).contains("the larger log"));
        assert!(!texts(&[&size[..], &["grow"]].concat()).contains("the larger log"));
    }
}
