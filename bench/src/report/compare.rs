//! Two reports beside each other: what became slower.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::{Report, Row};

/// How much worse a figure may become, as a share: `20%` or `0.2`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance(f64);

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// A line for each row.
    pub table: String,
    /// How many rows became worse than tolerated.
    pub regressions: usize,
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
/// changes from hour to hour.
///
/// A row that was measured and is gone, or fails now, counts as a regression.
pub fn compare(old: &Report, new: &Report, tolerance: Tolerance) -> Comparison {
    let mut comparison = Comparison { table: String::new(), regressions: 0 };
    for before in old.rows.iter().filter(|row| row.skipped.is_none()) {
        let after = new.rows.iter().find(|row| row.name == before.name && row.skipped.is_none());
        let Some(after) = after else {
            comparison.line(&before.name, "gone", true);
            continue;
        };
        let (what, was, is) = speeds(before, after);
        let is_worse = is < was * (1.0 - tolerance.0) || (after.errors > 0 && before.errors == 0);
        let change = if was > 0.0 { (is / was - 1.0) * 100.0 } else { 0.0 };
        comparison.line(&before.name, &format!("{what} {was:.2} -> {is:.2} ({change:+.1}%)"), is_worse);
    }
    comparison
}

impl Comparison {
    fn line(&mut self, name: &str, text: &str, is_worse: bool) {
        let mark = if is_worse { "  REGRESSION" } else { "" };
        self.regressions += usize::from(is_worse);
        let _ = writeln!(self.table, "{name:<24} {text}{mark}");
    }
}

fn speeds(before: &Row, after: &Row) -> (&'static str, f64, f64) {
    match (before.of_noop, after.of_noop) {
        (Some(was), Some(is)) => ("of noop", was, is),
        _ => ("ops/s", before.figures.ops, after.figures.ops),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Figures;
    use super::*;

    fn report(ops: f64, of_noop: Option<f64>) -> Report {
        let figures = Figures { ops, ..Figures::default() };
        Report { rows: vec![Row { name: "write@64".into(), figures, of_noop, ..Row::default() }], ..Report::default() }
    }

    fn regressions(old: &Report, new: &Report) -> usize {
        compare(old, new, "20%".parse().unwrap()).regressions
    }

    #[test]
    fn a_slow_down_beyond_the_tolerance_is_found() {
        assert_eq!(regressions(&report(1_000.0, None), &report(700.0, None)), 1);
        assert_eq!(regressions(&report(1_000.0, None), &report(850.0, None)), 0);
        assert_eq!(regressions(&report(1_000.0, None), &report(1_500.0, None)), 0);
    }

    #[test]
    fn a_slower_machine_is_no_regression() {
        assert_eq!(regressions(&report(1_000.0, Some(0.5)), &report(600.0, Some(0.5))), 0);
        assert_eq!(regressions(&report(1_000.0, Some(0.5)), &report(1_000.0, Some(0.35))), 1);
    }

    #[test]
    fn a_row_that_is_gone_or_fails_is_a_regression() {
        assert_eq!(regressions(&report(1_000.0, None), &Report::default()), 1);
        let mut failing = report(1_000.0, None);
        failing.rows[0].errors = 3;
        assert_eq!(regressions(&report(1_000.0, None), &failing), 1);
    }

    #[test]
    fn a_tolerance_is_a_share() {
        assert_eq!("20%".parse::<Tolerance>().unwrap(), Tolerance(0.2));
        assert_eq!("0.2".parse::<Tolerance>().unwrap(), Tolerance(0.2));
        assert!("120%".parse::<Tolerance>().is_err());
    }
}
