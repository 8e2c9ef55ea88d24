//! The targets of the scenarios, in one table.
//!
//! A target is a share of another case that is measured in the same rounds, a fixed figure, or the sum of both.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::args::Backend;
use crate::report::{Round, median_by};
use crate::scenario::Case;
use crate::scenario::Scenario::{self, *};

/// A bound that a figure is to keep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) case: Case,
    on: &'static [Backend],
    /// A figure or a reading of a round, by its name in files.
    figure: &'static str,
    /// Whether the figure must be at most the bound, rather than at least.
    is_upper: bool,
    /// The bound is `factor` × the sum of these + `plus`.
    factor: f64,
    of: &'static [Reference],
    plus: f64,
    /// Messages that must be in place for it to mean anything.
    preload: u64,
    /// The target in words.
    source: &'static str,
}

/// A figure that a bound is made of: of another case that is measured in the same rounds, or of the scenario itself.
#[derive(Clone, Copy, Debug)]
struct Reference(Option<Case>, &'static str);

/// Whether a target was reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The target in words.
    pub target: String,
    /// Which figure it speaks of.
    pub figure: String,
    /// The figure in the median round.
    pub value: f64,
    /// The bound of the figure in that round.
    pub limit: f64,
    /// Whether `value` must be at most `limit`, rather than at least.
    pub is_upper: bool,
    /// Whether it was reached.
    pub holds: bool,
    /// Whether the run was as large and as long as the target speaks of.
    pub is_full: bool,
}

/// The settings of a run that decide whether its verdicts mean anything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Messages in place.
    pub(crate) preload: u64,
    /// Whether time, rounds and load are those that targets speak of.
    pub(crate) is_usual: bool,
}

const MILLION: u64 = 1_000_000;
const SQLITE: &[Backend] = &[Backend::Sqlite];
const POSTGRES: &[Backend] = &[Backend::Postgres];
const EITHER: &[Backend] = &[Backend::Sqlite, Backend::Postgres];

const fn of(scenario: Scenario, width: u64, figure: &'static str) -> Reference {
    Reference(Some(Case::new(scenario, width)), figure)
}

const fn at_least(
    case: (Scenario, u64),
    on: &'static [Backend],
    figure: &'static str,
    factor: f64,
    of: &'static [Reference],
    source: &'static str,
) -> Target {
    let case = Case::new(case.0, case.1);
    Target { case, on, figure, is_upper: false, factor, of, plus: 0.0, preload: 2 * MILLION, source }
}

const fn more_than(
    case: (Scenario, u64),
    on: &'static [Backend],
    figure: &'static str,
    plus: f64,
    source: &'static str,
) -> Target {
    Target { plus, ..at_least(case, on, figure, 0.0, &[], source) }
}

const fn at_most(
    case: (Scenario, u64),
    on: &'static [Backend],
    figure: &'static str,
    plus: f64,
    source: &'static str,
) -> Target {
    Target { is_upper: true, ..more_than(case, on, figure, plus, source) }
}

const fn with(preload: u64, target: Target) -> Target {
    Target { preload, ..target }
}

#[rustfmt::skip]
const TARGETS: &[Target] = &[
    with(0, at_least((SysVersion, 64), EITHER, "ops", 0.85, &[of(Noop, 64, "ops")], "≥ 0.85 × noop")),
    Target { is_upper: true, ..at_least((Write, 1), SQLITE, "p50", 1.3,
        &[of(Noop, 1, "p50"), of(SqliteRaw, 1, "p50")], "p50 ≤ 1.3 × (noop p50 + sqlite-raw/1 p50)") },
    Target { is_upper: true, ..at_least((Write, 1), POSTGRES, "p50", 1.3,
        &[of(Noop, 1, "p50"), of(PgRaw, 1, "p50")], "p50 ≤ 1.3 × (noop p50 + pg-raw/1 p50)") },
    at_least((Write, 16), SQLITE, "ops", 0.35, &[of(Noop, 16, "ops")], "≥ 0.35 × noop"),
    at_least((Write, 16), POSTGRES, "ops", 0.18, &[of(Noop, 16, "ops")], "≥ 0.18 × noop"),
    at_least((Write, 64), SQLITE, "ops", 0.55, &[of(Noop, 64, "ops")], "≥ 0.55 × noop"),
    at_most((Write, 64), SQLITE, "p99", 8.0, "p99 ≤ 8 ms"),
    at_least((Write, 64), POSTGRES, "ops", 0.35, &[of(Noop, 64, "ops")], "≥ 0.35 × noop"),
    at_most((Write, 64), POSTGRES, "p99", 15.0, "p99 ≤ 15 ms"),
    at_least((Write, 256), SQLITE, "ops", 0.60, &[of(Noop, 256, "ops")], "≥ 0.60 × noop"),
    at_least((Write, 256), POSTGRES, "ops", 0.45, &[of(Noop, 256, "ops")], "≥ 0.45 × noop"),
    at_least((WriteExpected, 64), EITHER, "ops", 0.9, &[of(Write, 64, "ops")], "≥ 0.9 × write"),
    at_least((WriteOneStream, 64), EITHER, "ops", 0.9, &[of(Write, 64, "ops")], "≥ 0.9 × write"),
    at_least((WriteMillion, 64), SQLITE, "ops", 0.9, &[of(Write, 64, "ops")], "≥ 0.9 × write over 5,000 streams"),
    at_least((WriteMillion, 64), POSTGRES, "ops", 0.8, &[of(Write, 64, "ops")], "≥ 0.8 × write over 5,000 streams"),
    at_least((WriteClientIds, 64), EITHER, "ops", 0.8, &[of(Write, 64, "ops")], "≥ 0.8 × write with generated ids"),
    more_than((Append, 8), SQLITE, "messages", 100_000.0, "≥ 100,000 messages/s"),
    at_least((Append, 8), SQLITE, "messages", 0.6, &[of(SqliteLogIndex, 256, "messages")],
        "≥ 0.6 × sqlite-log-index/256"),
    at_least((Append, 8), POSTGRES, "messages", 0.7, &[of(PgRaw, 1_000, "messages")], "≥ 0.7 × pg-raw/1000"),
    at_most((Append, 8), EITHER, "p99", 100.0, "p99 ≤ 100 ms"),
    at_least((Conditions, 64), EITHER, "ops", 0.9, &[of(Write, 64, "ops")], "≥ 0.9 × write without conditions beside it"),
    more_than((Conditions, 64), EITHER, "of_plain", 0.9, "≥ 0.9 × write beside the same appends without conditions"),
    at_most((Conditions, 64), EITHER, "condition_p99_ms", 250.0, "a condition is answered within 250 ms"),
    more_than((StreamTail, 16), EITHER, "ops", 20_000.0, "≥ 20,000 reads/s"),
    more_than((StreamTail, 16), EITHER, "messages", 2_000_000.0, "2 million messages/s"),
    more_than((CategoryTail, 16), EITHER, "ops", 20_000.0, "≥ 20,000 reads/s"),
    more_than((CategoryTail, 16), EITHER, "messages", 2_000_000.0, "2 million messages/s"),
    more_than((StreamGet, 16), SQLITE, "ops", 6_000.0, "≥ 6,000 reads/s"),
    more_than((StreamGet, 16), POSTGRES, "ops", 4_000.0, "≥ 4,000 reads/s"),
    more_than((CategoryGet, 16), SQLITE, "ops", 6_000.0, "≥ 6,000 reads/s"),
    more_than((CategoryGet, 16), POSTGRES, "ops", 4_000.0, "≥ 4,000 reads/s"),
    at_least((CategoryMember, 16), EITHER, "ops", 0.5, &[of(CategoryGet, 16, "ops")], "≥ 0.5 × category-get"),
    more_than((CatchUp, 1), SQLITE, "messages", 400_000.0, "≥ 400,000 messages/s"),
    more_than((CatchUp, 1), POSTGRES, "messages", 250_000.0, "≥ 250,000 messages/s"),
    more_than((CatchUpSse, 1), SQLITE, "messages", 400_000.0, "≥ 400,000 pokes/s"),
    more_than((CatchUpSse, 1), POSTGRES, "messages", 300_000.0, "≥ 300,000 pokes/s"),
    at_least((GroupRead, 1), EITHER, "messages", 0.8, &[of(CatchUp, 1, "messages")], "≥ 0.8 × catch-up"),
    at_most((GroupLive, 1), SQLITE, "p99", 15.0, "p99 ≤ 15 ms"),
    at_most((GroupLive, 1), POSTGRES, "p99", 25.0, "p99 ≤ 25 ms"),
    at_most((GroupBehind, 1), SQLITE, "p99", 15.0, "p99 as in group-live: ≤ 15 ms"),
    at_most((GroupBehind, 1), POSTGRES, "p99", 25.0, "p99 as in group-live: ≤ 25 ms"),
    with(0, at_most((GroupMany, 1), EITHER, "core_percent", 5.0, "≤ 5 % of a core")),
    with(0, at_most((GroupMany, 1), EITHER, "kib_each", 8.0, "≤ 8 KiB a member beyond its connection")),
    at_least((GroupCheckpoint, 16), POSTGRES, "last_minute_s", 0.8, &[Reference(None, "first_minute_s")],
        "last minute ≥ 0.8 × of the first"),
    Target { factor: 1.0, of: &[Reference(None, "write_p50_ms")],
        ..at_most((Poke, 1), EITHER, "p50", 0.2, "p50 ≤ write p50 + 0.2 ms") },
    at_most((Poke, 1), EITHER, "p99", 5.0, "p99 ≤ 5 ms"),
    at_most((PokeMany, 1), EITHER, "p99", 5.0, "p99 ≤ 5 ms"),
    more_than((FanOut, 1), EITHER, "messages", 250_000.0, "≥ 250,000 pokes/s"),
    at_most((FanOut, 1), EITHER, "max", 1_000.0, "lag ≤ 1 s"),
    at_least((FanOutWrites, 64), EITHER, "ops", 0.5, &[of(Write, 64, "ops")], "≥ 0.5 × write without subscribers"),
    with(0, at_most((Idle, 1), EITHER, "kib_each", 10.0, "≤ 10 KiB of resident memory each")),
    with(0, at_most((Idle, 1), EITHER, "resident_mib", 150e6 / 1_048_576.0, "< 150 MB in all")),
    with(0, at_most((Idle, 1), EITHER, "core_percent", 1.0, "≤ 1 % of a core")),
    with(0, at_most((IdleServer, 1), EITHER, "resident_mib", 25e6 / 1_048_576.0, "≤ 25 MB resident")),
    with(0, at_least((WriteTls, 64), EITHER, "ops", 0.7, &[of(WriteHttp2, 64, "ops")], "≥ 0.7 × without TLS")),
    with(0, at_least((RefusedToken, 64), EITHER, "ops", 1.0 / 1.2, &[of(Noop, 64, "ops")], "≤ 1.2 × the cost of noop")),
    with(0, at_least((RefusedOverload, 64), POSTGRES, "ops", 1.0 / 1.2, &[of(Noop, 64, "ops")],
        "≤ 1.2 × the cost of noop")),
    with(0, more_than((Overload, 1_024), POSTGRES, "accepted_share", 0.9, "accepts ≥ 0.9 × of what it does alone")),
    with(0, at_most((Hostile, 64), EITHER, "p99_times", 3.0, "p99 ≤ 3 × of without the crowd")),
    with(0, at_most((Hostile, 64), EITHER, "budget_share", 1.1, "resident memory grows by ≤ 1.1 × the budget")),
    with(0, at_most((Siege, 64), SQLITE, "p99", 50.0, "p99 ≤ 50 ms")),
    with(0, at_most((Siege, 64), POSTGRES, "p99_times", 3.0, "p99 ≤ 3 × of without the others")),
    at_most((Mixed, 1), EITHER, "p99", 15.0, "write p99 ≤ 15 ms"),
    at_most((Mixed, 1), EITHER, "read_p99_ms", 30.0, "read p99 ≤ 30 ms"),
    with(10 * MILLION, at_most((Rare, 1), EITHER, "max", 2_000.0, "an answer within 2 s")),
    with(10 * MILLION, at_most((NsInfo, 1), EITHER, "p99", 10.0, "≤ 10 ms")),
    with(10 * MILLION, at_most((NsStreams, 1), EITHER, "p99", 10.0, "≤ 10 ms")),
    with(10 * MILLION, at_most((NsCategories, 1), EITHER, "p99", 50.0, "≤ 50 ms")),
    with(0, at_most((NsList, 1), EITHER, "p99", 1_000.0, "≤ 1 s")),
    with(0, at_most((Namespaces, 1), EITHER, "p99", 50.0, "p99 ≤ 50 ms")),
    at_least((TwoServers, 64), POSTGRES, "ops", 0.7, &[of(Write, 64, "ops")], "≥ 0.7 × one server"),
    at_most((Stalls, 64), EITHER, "unexplained_seconds", 0.0,
        "no second above 50 ms unless the fsync ceiling shows it in the same second"),
    at_most((Soak, 1), EITHER, "last_third_percent", 3.0, "memory of the last third flat within 3 %"),
    with(10 * MILLION, at_most((Start, 1), SQLITE, "max", 100.0, "≤ 100 ms")),
    with(10 * MILLION, at_most((Start, 1), POSTGRES, "max", 300.0, "≤ 300 ms")),
];

pub(crate) fn targets(case: Case, backend: Option<Backend>) -> Vec<&'static Target> {
    let applies = |target: &&Target| target.case == case && backend.is_some_and(|backend| target.on.contains(&backend));
    TARGETS.iter().filter(applies).collect()
}

impl Target {
    /// The cases that must be measured in the same rounds.
    pub(crate) fn beside(&self) -> impl Iterator<Item = Case> + '_ {
        self.of.iter().filter_map(|Reference(case, _)| *case)
    }

    /// Whether the rounds, each with the cases that were measured beside it, reach it; `None` if a figure is missing.
    pub(crate) fn verdict(&self, rounds: &[(&Round, &BTreeMap<Case, Round>)], extent: Extent) -> Option<Verdict> {
        let mut pairs = Vec::new();
        for (round, beside) in rounds {
            let value = round.figure(self.figure)?;
            let mut sum = 0.0;
            for Reference(case, figure) in self.of {
                let of = match case {
                    None => Some(*round),
                    Some(case) => beside.get(case),
                };
                sum += of?.figure(figure)?;
            }
            pairs.push((value, self.factor * sum + self.plus));
        }
        let (value, limit) = median_by(pairs, |(value, limit)| if limit > 0.0 { value / limit } else { value })?;
        Some(Verdict {
            target: self.source.to_owned(),
            figure: self.figure.to_owned(),
            value,
            limit,
            is_upper: self.is_upper,
            holds: if self.is_upper { value <= limit } else { value >= limit },
            is_full: extent.is_usual && extent.preload >= self.preload,
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} of {})", self.target, short(self.value), short(self.limit))?;
        if self.is_full { Ok(()) } else { f.write_str(" in a smaller run") }
    }
}

fn short(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Figures;

    const FULL: Extent = Extent { preload: 10 * MILLION, is_usual: true };

    fn round(ops: f64, p50: f64) -> Round {
        Round { figures: Figures { ops, p50, ..Figures::default() }, ..Round::default() }
    }

    #[test]
    fn a_share_of_the_ceiling_is_taken_round_by_round() {
        let target = targets(Case::new(Write, 16), Some(Backend::Sqlite))[0];
        let beside = |ops| [(Case::new(Noop, 16), round(ops, 0.0))].into();
        // The machine halves its pace in the second round; the share stays.
        let (one, other) = ((round(36.0, 0.0), beside(100.0)), (round(18.0, 0.0), beside(50.0)));
        let verdict = target.verdict(&[(&one.0, &one.1), (&other.0, &other.1)], FULL).unwrap();
        assert!(verdict.holds && verdict.is_full, "{verdict:?}");
        let slow = (round(34.0, 0.0), beside(100.0));
        assert!(!target.verdict(&[(&slow.0, &slow.1)], FULL).unwrap().holds);
        assert!(
            target.verdict(&[(&slow.0, &BTreeMap::new())], FULL).is_none(),
            "without its ceiling there is no verdict"
        );
    }

    #[test]
    fn latencies_of_two_ceilings_are_added() {
        let target = targets(Case::new(Write, 1), Some(Backend::Postgres))[0];
        let beside = [(Case::new(Noop, 1), round(0.0, 0.1)), (Case::new(PgRaw, 1), round(0.0, 0.3))].into();
        let verdict = |p50| target.verdict(&[(&round(0.0, p50), &beside)], FULL).unwrap();
        assert!(verdict(0.51).holds);
        assert!(!verdict(0.53).holds);
        assert!((verdict(0.5).limit - 0.52).abs() < 1e-9);
    }

    #[test]
    fn a_small_run_says_so() {
        let target = targets(Case::new(Append, 8), Some(Backend::Sqlite))[0];
        let extent = Extent { preload: 1_000, is_usual: true };
        assert!(!target.verdict(&[(&round(1.0, 1.0), &BTreeMap::new())], extent).unwrap().is_full);
    }

    #[test]
    fn memory_has_no_targets_and_every_target_its_words() {
        assert!(targets(Case::new(Write, 64), Some(Backend::Memory)).is_empty());
        assert!(targets(Case::new(Write, 64), None).is_empty());
        assert!(TARGETS.iter().all(|target| !target.source.is_empty()));
    }
}
