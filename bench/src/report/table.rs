//! A report as a table for a terminal.

use std::fmt::Write as _;

use super::{Report, Row};

const HEAD: [&str; 16] = [
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
    "srv MiB",
    "target",
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
        let mut line = String::new();
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            // Figures end together, words begin together.
            let is_word = at == 0 || at == HEAD.len() - 1;
            let _ = if is_word { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for row in &report.rows {
        let mut readings: Vec<String> = row.readings.iter().map(|(name, value)| format!("{name} {value:.2}")).collect();
        if row.figures.settle_s > 0.0 {
            readings.push(format!("indexed {:.2} s after the last answer, which counts", row.figures.settle_s));
        }
        if !readings.is_empty() {
            let _ = writeln!(text, "{}: {}", row.name, readings.join(", "));
        }
        if let Some(where_to) = row.broken_off_text() {
            let _ = writeln!(text, "{}: {where_to}", row.name);
        }
        if let Some(error) = &row.first_error {
            let _ = writeln!(text, "{}: {} errors, the first: {error}", row.name, row.errors);
        }
        if let Some(why) = &row.skipped {
            let _ = writeln!(text, "{}: not measured: {why}", row.name);
        }
    }
    if report.interrupted {
        let has_figures = report.rows.iter().any(|row| row.skipped.is_none());
        text.push_str(if has_figures {
            "broken off: these are the figures until then\n"
        } else {
            "broken off before anything was measured\n"
        });
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
        if figures.resident_mib > 0.0 { format!("{:.0}", figures.resident_mib) } else { "-".to_owned() },
        row.target.as_ref().map_or_else(|| "-".to_owned(), |target| format!("{}: {}", target.verdict(), target.text)),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::{Figures, Target};
    use super::*;

    #[test]
    fn a_row_tells_its_figures_and_whether_its_target_was_held() {
        let figures = Figures { ops: 31_193.4, p999: 82.772, resident_mib: 61.4, ..Figures::default() };
        let target = Target { text: ">= 0.55 x noop".into(), ratio: Some(0.55), held: false };
        let row = Row { name: "write@64".into(), figures, target: Some(target), ..Row::default() };
        let text = table(&Report { rows: vec![row], ..Report::default() });
        let mut lines = text.lines();
        assert!(lines.next().unwrap().starts_with("operation  "), "{text}");
        let line = lines.next().unwrap();
        for part in ["write@64   31193 ", " 82.772 ", " 61  missed: >= 0.55 x noop"] {
            assert!(line.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_no_latency_stands_below() {
        let readings = [("kib_each".to_owned(), 9.126), ("resident_mib".to_owned(), 104.5)].into();
        let report =
            Report { rows: vec![Row { name: "idle".into(), readings, ..Row::default() }], ..Report::default() };
        assert!(table(&report).contains("idle: kib_each 9.13, resident_mib 104.50"));
    }

    #[test]
    fn what_was_skipped_says_why() {
        let report =
            Report { rows: vec![Row::skipped("append@8".into(), "no such method".into())], ..Report::default() };
        assert!(table(&report).contains("append@8: not measured: no such method"));
    }
}
