//! A report as a table for a terminal.

use std::fmt::Write as _;

use super::{Report, Row};

const HEAD: [&str; 14] = [
    "operation",
    "ops/s",
    "msg/s",
    "avg",
    "p50",
    "p95",
    "p99",
    "p99.9",
    "max",
    "errors",
    "of noop",
    "spread",
    "gen cpu",
    "srv cpu",
];

/// The table, latencies in milliseconds, below it what went wrong.
pub fn table(report: &Report) -> String {
    let mut text = String::new();
    for (name, value) in &report.environment {
        let _ = writeln!(text, "{name:>12}: {value}");
    }
    let head: Vec<String> = HEAD.iter().map(|cell| (*cell).to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(report.rows.iter().map(cells)).collect();
    let widths: Vec<usize> =
        (0..HEAD.len()).map(|n| rows.iter().filter_map(|row| row.get(n)).map(String::len).max().unwrap_or(0)).collect();
    for row in &rows {
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(text, "{cell:>width$}  ");
        }
        text.push('\n');
    }
    for row in &report.rows {
        if let Some(error) = &row.first_error {
            let _ = writeln!(text, "{}: {} errors, the first: {error}", row.name, row.errors);
        }
        if let Some(why) = &row.skipped {
            let _ = writeln!(text, "{}: not measured: {why}", row.name);
        }
    }
    if report.interrupted {
        text.push_str("broken off: these are the figures until then\n");
    }
    text
}

fn cells(row: &Row) -> Vec<String> {
    if row.skipped.is_some() {
        return vec![row.name.clone(), "-".to_owned()];
    }
    let figures = &row.figures;
    let ms = |value: f64| format!("{value:.3}");
    let share = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2}"));
    vec![
        row.name.clone(),
        format!("{:.0}", figures.ops),
        format!("{:.0}", figures.messages),
        ms(figures.avg),
        ms(figures.p50),
        ms(figures.p95),
        ms(figures.p99),
        ms(figures.p999),
        ms(figures.max),
        row.errors.to_string(),
        share(row.of_noop),
        format!("{:.0}%", row.spread * 100.0),
        share(Some(figures.generator_cpu)),
        share(Some(figures.server_cpu)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_skipped_says_why() {
        let report =
            Report { rows: vec![Row::skipped("append@8".into(), "no such method".into())], ..Report::default() };
        assert!(table(&report).contains("append@8: not measured: no such method"));
    }
}
