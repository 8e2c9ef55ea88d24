//! Two reports compared: the rows that became slower.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde::Serialize;

use super::number::rate;
use super::{Report, Row};

/// How much worse a figure may become, as a share: `20%` or `0.2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance(f64);

/// The result of a comparison.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// A line for each row.
    pub table: String,
    /// How many rows became worse than tolerated.
    pub regressions: usize,
    /// The same rows for programs.
    pub rows: Vec<Compared>,
}

/// One row of both reports.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Compared {
    /// The scenario.
    pub name: String,
    /// What was compared; empty if the row is gone.
    pub figures: Vec<Pair>,
    /// Whether it became worse than tolerated.
    pub is_regression: bool,
}

impl std::str::FromStr for Tolerance {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse(),
        };
        let share = share.with_context(|| format!("{text} is no share"))?;
        anyhow::ensure!((0.0..1.0).contains(&share), "{text} is not between 0% and 100%");
        Ok(Self(share))
    }
}

/// Compares requests a second: as shares of the no-op ceiling where both have it, since the machine's own pace
/// changes from hour to hour. Where both were sent at a rate, latencies are compared, since the pace is given.
///
/// A row that was measured and is gone, or fails now, counts as a regression; a ceiling never does.
pub fn compare(old: &Report, new: &Report, tolerance: Tolerance) -> Comparison {
    let mut comparison = Comparison { table: String::new(), regressions: 0, rows: Vec::new() };
    for before in old.rows.iter().filter(|row| row.skipped.is_none()) {
        let after = new.rows.iter().find(|row| row.name == before.name && row.skipped.is_none());
        let Some(after) = after else {
            comparison.line(&before.name, "gone", Vec::new(), true);
            continue;
        };
        let pairs = Pair::all(before, after);
        let fails = after.errors > 0 && before.errors == 0;
        let is_worse = pairs.iter().any(|pair| pair.is_worse(tolerance)) || fails;
        let texts: Vec<String> = pairs.iter().map(Pair::to_string).collect();
        let spread = format!("spread {:.0}% -> {:.0}%", before.spread * 100.0, after.spread * 100.0);
        let fails = if fails { format!(", {} errors", after.errors) } else { String::new() };
        // A row whose rounds differ by more than the tolerance passes, but shows nothing.
        let is_unclear = !is_worse && !before.is_ceiling && before.spread.max(after.spread) > tolerance.0;
        let unclear = if is_unclear { "  UNCLEAR: rounds differ by more than is tolerated" } else { "" };
        let text = format!("{}, {spread}{fails}{unclear}", texts.join(", "));
        comparison.line(&before.name, &text, pairs, is_worse && !before.is_ceiling);
    }
    comparison
}

impl Comparison {
    fn line(&mut self, name: &str, text: &str, figures: Vec<Pair>, is_worse: bool) {
        let mark = if is_worse { "  REGRESSION" } else { "" };
        self.regressions += usize::from(is_worse);
        let _ = writeln!(self.table, "{name:<24} {text}{mark}");
        self.rows.push(Compared { name: name.to_owned(), figures, is_regression: is_worse });
    }
}

/// One figure of a row, in both reports.
#[derive(Clone, Debug, Serialize)]
pub struct Pair {
    name: &'static str,
    was: f64,
    is: f64,
    /// Whether less of it is better.
    #[serde(skip)]
    is_latency: bool,
}

impl Pair {
    fn all(before: &Row, after: &Row) -> Vec<Self> {
        let pair = |name, was, is| Self { name, was, is, is_latency: false };
        let ops = pair("ops/s", before.figures.ops, after.figures.ops);
        match (before.of_noop, after.of_noop) {
            _ if before.rate.is_some() && before.rate == after.rate => {
                let p50 = Self { is_latency: true, ..pair("p50 ms", before.figures.p50, after.figures.p50) };
                vec![ops, p50]
            }
            (Some(was), Some(is)) => vec![pair("of noop", was, is)],
            _ => vec![ops],
        }
    }

    fn is_worse(&self, Tolerance(share): Tolerance) -> bool {
        if self.is_latency { self.was < self.is * (1.0 - share) } else { self.is < self.was * (1.0 - share) }
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, was, is, .. } = self;
        let change = if *was > 0.0 { (is / was - 1.0) * 100.0 } else { 0.0 };
        write!(f, "{name} {} -> {} ({change:+.1}%)", rate(*was), rate(*is))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::super::tests::{report, row};
    use super::*;

    fn measured(ops: f64) -> Row {
        row("write@64", Figures { ops, ..Figures::default() })
    }

    fn compared(before: &Row, after: &Row) -> Comparison {
        let [before, after] = [before, after].map(|row| report("sqlite", row.clone()));
        compare(&before, &after, "20%".parse().unwrap())
    }

    #[test]
    fn a_slow_down_beyond_the_tolerance_is_found() {
        let of_noop = |ops, share| Row { of_noop: Some(share), ..measured(ops) };
        let paced = |ops, p50| Row {
            rate: Some(1_000.0),
            figures: Figures { ops, p50, ..Figures::default() },
            ..measured(ops)
        };
        let ceiling = |ops| Row { is_ceiling: true, ..measured(ops) };
        let failing = Row { errors: 3, ..measured(1_000.0) };
        for (case, before, after, regressions) in [
            ("slower", measured(1_000.0), measured(700.0), 1),
            ("a little slower", measured(1_000.0), measured(850.0), 0),
            ("faster", measured(1_000.0), measured(1_500.0), 0),
            ("a slower machine", of_noop(1_000.0, 0.5), of_noop(600.0, 0.5), 0),
            ("a smaller share of the ceiling", of_noop(1_000.0, 0.5), of_noop(1_000.0, 0.35), 1),
            ("a slower ceiling is the machine's", ceiling(1_000.0), ceiling(500.0), 0),
            ("at a rate, a little slower", paced(1_000.0, 1.0), paced(1_000.0, 1.2), 0),
            ("at a rate, slower", paced(1_000.0, 1.0), paced(1_000.0, 1.3), 1),
            ("a rate that is not reached", paced(1_000.0, 1.0), paced(700.0, 1.0), 1),
            ("a rate holds back", measured(1_400.0), paced(1_000.0, 1.0), 1),
            ("failing", measured(1_000.0), failing, 1),
            ("gone", measured(1_000.0), row("append@8", Figures::default()), 1),
        ] {
            assert_eq!(compared(&before, &after).regressions, regressions, "{case}");
        }
    }

    #[test]
    fn a_row_whose_rounds_differ_passes_and_is_called_unclear() {
        let (steady, noisy) = (measured(1_000.0), |ops| Row { spread: 0.5, ..measured(ops) });
        for (after, regressions, is_unclear) in
            [(steady.clone(), 0, false), (noisy(1_000.0), 0, true), (noisy(700.0), 1, false)]
        {
            let compared = compared(&steady, &after);
            let found = (compared.regressions, compared.table.contains("UNCLEAR"));
            assert_eq!(found, (regressions, is_unclear), "{compared:?}");
        }
    }

    #[test]
    fn a_tolerance_is_a_share() {
        assert_eq!("20%".parse::<Tolerance>().unwrap(), Tolerance(0.2));
        assert_eq!("0.2".parse::<Tolerance>().unwrap(), Tolerance(0.2));
        assert!("120%".parse::<Tolerance>().is_err());
    }
}
