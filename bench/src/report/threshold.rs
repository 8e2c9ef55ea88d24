//! A bound on a figure: `write.p99<50ms`, `write@64.ops>20000`.

use anyhow::Context as _;

use super::{Figures, Report};

/// A bound that a figure keeps or misses.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    row: String,
    figure: String,
    is_upper: bool,
    bound: f64,
}

impl std::str::FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let at = text.find(['<', '>']).context("a threshold is OPERATION.FIGURE<BOUND or >BOUND")?;
        let (left, bound) = (text[..at].trim(), text[at + 1..].trim());
        // `p99.9` has a dot of its own.
        let (row, figure) = left.split_once('.').context("a threshold begins with OPERATION.FIGURE")?;
        figure_of(Figures::default(), figure).with_context(|| format!("there is no figure {figure}"))?;
        let unit_at = bound.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(bound.len());
        let (digits, unit) = bound.split_at(unit_at);
        let is_latency = !matches!(figure, "ops" | "messages");
        let scale = match unit {
            "us" if is_latency => 1e-3,
            "ms" if is_latency => 1.0,
            "s" if is_latency => 1e3,
            "" => 1.0,
            _ => anyhow::bail!("{bound} is no bound of {figure}"),
        };
        let number: f64 = digits.trim().parse().with_context(|| format!("{bound} is no bound"))?;
        let (row, figure) = (row.to_owned(), figure.to_owned());
        Ok(Self { text: text.to_owned(), row, figure, is_upper: &text[at..=at] == "<", bound: number * scale })
    }
}

impl Threshold {
    /// A line for each row that misses it. A threshold of which no row was measured is missed, too.
    pub fn missed(&self, report: &Report) -> Vec<String> {
        let rows = report.rows.iter().filter(|row| row.name == self.row || row.operation() == self.row);
        let mut lines = Vec::new();
        let mut measured = 0;
        for row in rows.filter(|row| row.skipped.is_none()) {
            measured += 1;
            let value = figure_of(row.figures, &self.figure).unwrap_or(f64::NAN);
            let is_kept = if self.is_upper { value < self.bound } else { value > self.bound };
            if !is_kept {
                lines.push(format!("{}: {} has {value:.3}", self.text, row.name));
            }
        }
        if measured == 0 {
            lines.push(format!("{}: nothing of that name was measured", self.text));
        }
        lines
    }
}

/// A figure that may have a bound; latencies are in milliseconds.
fn figure_of(figures: Figures, name: &str) -> Option<f64> {
    match name {
        "p99.9" => figures.get("p999"),
        "ops" | "messages" | "avg" | "p50" | "p95" | "p99" | "max" => figures.get(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{report, row};
    use super::*;

    #[test]
    fn a_bound_is_kept_or_missed() {
        let figures = Figures { ops: 1_000.0, p99: 40.0, p999: 70.0, ..Figures::default() };
        let report = report("sqlite", row("write@64", figures));
        for (text, missed) in [
            ("write.p99<50ms", 0),
            ("write.p99<0.05s", 0),
            ("write@64.p99.9<50ms", 1),
            ("write.p99<40000us", 1),
            ("write.ops>900", 0),
            ("write.ops>1100", 1),
            ("append.ops>1", 1),
        ] {
            assert_eq!(text.parse::<Threshold>().unwrap().missed(&report).len(), missed, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["write", "write.p99", "p99<5ms", "write.p98<5ms", "write.p99<soon", "write.ops>20s", "write.p99<5m"]
        {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }
}
