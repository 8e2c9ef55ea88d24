//! Reports as tables in a document, between two marks, so that no figure there is typed by hand.

use std::fmt::Write as _;

use anyhow::Context as _;

use super::beside::Beside;
use super::number::{count, ms, rate};
use super::{Picture, Report, Row};

/// What stands around the tables, each on a line of its own.
const MARKS: (&str, &str) = ("<!-- bench:begin -->", "<!-- bench:end -->");

const HEAD: [&str; 15] = [
    "operation",
    "measured",
    "ops/s",
    "messages/s",
    "avg",
    "p50",
    "p95",
    "p99",
    "p99.9",
    "max",
    "of no-op",
    "spread",
    "server cores",
    "server MiB",
    "errors",
];

/// The drawings of what only minutes show, for files that a document shows.
pub fn pictures(reports: &[Report]) -> Vec<Picture> {
    super::html::pictures(&Beside::new(reports))
}

/// The document with what stands between its marks replaced by the tables of the reports, and by their pictures where
/// these are in the directory `shown_from`, as seen from the document.
///
/// # Errors
/// It does not have the marks, once each and in order.
pub fn fill(document: &str, reports: &[Report], shown_from: Option<&str>) -> anyhow::Result<String> {
    let (begin, end) = (place(document, MARKS.0)? + MARKS.0.len(), place(document, MARKS.1)?);
    anyhow::ensure!(begin <= end, "{} stands before {}", MARKS.1, MARKS.0);
    Ok(format!("{}\n{}{}", &document[..begin], tables(reports, shown_from), &document[end..]))
}

/// Where the one line stands that is this mark; a document may speak of marks elsewhere.
fn place(document: &str, mark: &str) -> anyhow::Result<usize> {
    let is_line = |at: &usize| {
        let (before, after) = (&document[..*at], &document[at + mark.len()..]);
        (before.is_empty() || before.ends_with('\n')) && (after.is_empty() || after.starts_with(['\n', '\r']))
    };
    let mut places = document.match_indices(mark).map(|(at, _)| at).filter(is_line);
    let at = places.next().with_context(|| format!("there is no line {mark}"))?;
    anyhow::ensure!(places.next().is_none(), "there is more than one line {mark}");
    Ok(at)
}

fn tables(reports: &[Report], shown_from: Option<&str>) -> String {
    let beside = Beside::new(reports);
    let mut text = String::new();
    let _ = writeln!(text, "\nWritten by `eventodb bench report`. Latencies are in milliseconds.\n");
    for warning in beside.warnings() {
        let _ = writeln!(text, "- {}", cell(&warning));
    }
    text.push('\n');
    environment(&mut text, &beside);
    targets(&mut text, &beside);
    for Picture { file, caption, .. } in shown_from.map(|_| pictures(reports)).unwrap_or_default() {
        let _ = writeln!(text, "![{}]({}/{file})\n", cell(&caption), shown_from.unwrap_or_default());
    }
    for (name, report) in &beside.columns {
        let _ = writeln!(text, "### {}\n", cell(name));
        line(&mut text, HEAD.iter().map(|head| (*head).to_owned()));
        line(&mut text, HEAD.iter().enumerate().map(|(at, _)| if at < 2 { "---" } else { "---:" }.to_owned()));
        for row in report.rows.iter().filter(|row| row.skipped.is_none()) {
            line(&mut text, figures(row));
        }
        text.push('\n');
    }
    text
}

fn environment(text: &mut String, beside: &Beside<'_>) {
    line(text, std::iter::once(String::new()).chain(beside.columns.iter().map(|(name, _)| cell(name))));
    line(text, (0..=beside.columns.len()).map(|_| "---".to_owned()));
    for (name, values) in beside.facts() {
        line(text, std::iter::once(cell(name)).chain(values.into_iter().map(cell)));
    }
    text.push('\n');
}

/// Each row's target beside what it came to, in each report.
fn targets(text: &mut String, beside: &Beside<'_>) {
    let heads = |(name, _): &(String, &Report)| [format!("{}: target", cell(name)), format!("{}: result", cell(name))];
    line(text, std::iter::once("scenario".to_owned()).chain(beside.columns.iter().flat_map(heads)));
    line(text, (0..=2 * beside.columns.len()).map(|_| "---".to_owned()));
    for name in beside.rows() {
        let cells = beside.columns.iter().flat_map(|(_, report)| match report.row(name) {
            Some(row) => [wanted(row), result(row)],
            None => [String::new(), String::new()],
        });
        line(text, std::iter::once(cell(name)).chain(cells));
    }
    text.push('\n');
}

/// Its targets, a line each.
fn wanted(row: &Row) -> String {
    let targets: Vec<String> = row.outcomes().iter().map(|outcome| cell(&outcome.target)).collect();
    targets.join("<br>")
}

/// What came of each target, a line each, then the figures.
fn result(row: &Row) -> String {
    if let Some(why) = &row.skipped {
        return format!("not measured: {}", cell(why));
    }
    if !row.is_result() {
        return format!("no result: {} errors", row.errors);
    }
    let mut text = String::new();
    for outcome in row.outcomes() {
        let detail = if outcome.detail.is_empty() { String::new() } else { format!(": {}", cell(&outcome.detail)) };
        let _ = write!(text, "**{}**{detail}<br>", outcome.verdict);
    }
    let figures = &row.figures;
    let _ = match row.of_noop {
        Some(share) => write!(text, "{share:.2} × no-op, {}/s", rate(figures.ops)),
        None => write!(text, "{}/s", rate(figures.ops)),
    };
    // What one request stands for is a figure of its own where it is more than one message.
    if figures.messages > 1.5 * figures.ops {
        let _ = write!(text, " ({} messages/s)", count(figures.messages));
    }
    let _ = write!(text, ", p50 {}, p99 {}", ms(figures.p50), ms(figures.p99));
    if !row.readings.is_empty() {
        let _ = write!(text, ", {}", cell(&row.readings_text()));
    }
    text
}

fn figures(row: &Row) -> Vec<String> {
    let figures = &row.figures;
    let latencies = [figures.avg, figures.p50, figures.p95, figures.p99, figures.p999, figures.max];
    let mut cells = vec![cell(&row.name), row.extent_text(), rate(figures.ops), rate(figures.messages)];
    cells.extend(latencies.into_iter().map(ms));
    cells.push(row.of_noop.map_or_else(String::new, |share| format!("{share:.2}")));
    cells.push(format!("{:.0} %", row.spread * 100.0));
    cells.push(format!("{:.2}", figures.server_cpu));
    cells.push(if figures.resident_mib > 0.0 { count(figures.resident_mib) } else { String::new() });
    cells.push(row.errors.to_string());
    cells
}

fn line(text: &mut String, cells: impl IntoIterator<Item = String>) {
    text.push('|');
    for cell in cells {
        let _ = write!(text, " {cell} |");
    }
    text.push('\n');
}

/// Text that neither ends a cell nor begins anything.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '|' | '*' | '_' | '`' | '[' | ']' | '\\' => safe.extend(['\\', character]),
            '<' => safe.push_str("&lt;"),
            _ if character.is_control() => safe.push(' '),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::{Figures, Target};
    use super::*;

    fn report(backend: &str, row: Row) -> Report {
        Report {
            environment: [("backend".to_owned(), backend.to_owned())].into(),
            rows: vec![row],
            ..Report::default()
        }
    }

    fn row(held: bool) -> Row {
        let figures = Figures { ops: 31_193.4, messages: 31_193.4, p50: 1.104, p99: 9.413, ..Figures::default() };
        let target = Target { text: ">= 0.55 x noop".into(), ratio: Some(0.55), held };
        Row { name: "write@64".into(), figures, of_noop: Some(0.56), target: Some(target), ..Row::default() }
    }

    #[test]
    fn target_and_result_stand_side_by_side() {
        let document = format!("# Performance\n\n{}\nold\n{}\n\nMore.\n", MARKS.0, MARKS.1);
        let reports = [report("sqlite", row(true)), report("postgres", row(false))];
        let filled = fill(&document, &reports, None).unwrap();
        assert!(filled.starts_with("# Performance\n\n<!-- bench:begin -->\n"), "{filled}");
        assert!(filled.ends_with("<!-- bench:end -->\n\nMore.\n"), "{filled}");
        assert!(!filled.contains("old"), "{filled}");
        let wanted = "| write@64 | >= 0.55 x noop | **held**<br>0.56 × no-op, 31,193/s, p50 1.10, p99 9.41 \
                      | >= 0.55 x noop | **missed**<br>0.56 × no-op, 31,193/s, p50 1.10, p99 9.41 |\n";
        assert!(filled.contains(wanted), "{filled}");
        assert_eq!(fill(&filled, &reports, None).unwrap(), filled, "filling again changes nothing");
    }

    #[test]
    fn a_document_without_marks_stays_as_it_is() {
        for document in ["", "<!-- bench:begin -->", "<!-- bench:end -->\n<!-- bench:begin -->\n"] {
            assert!(fill(document, &[], None).is_err(), "{document}");
        }
        let once = format!("{}\n{}\n", MARKS.0, MARKS.1);
        assert!(fill(&once, &[], None).is_ok());
        assert!(fill(&once.repeat(2), &[], None).is_err());
    }

    #[test]
    fn a_document_may_speak_of_its_marks() {
        let document = format!("Between `{0}` and {1}.\n{0}\nold\n{1}\n", MARKS.0, MARKS.1);
        let filled = fill(&document, &[], None).unwrap();
        assert!(filled.starts_with("Between `<!-- bench:begin -->` and <!-- bench:end -->.\n"), "{filled}");
        assert!(!filled.contains("old"), "{filled}");
    }

    #[test]
    fn what_failed_is_no_result() {
        let failed = Row { errors: 3, first_error: Some("a | b <!-- bench:end -->".into()), ..row(true) };
        let filled = fill(&format!("{}\n{}", MARKS.0, MARKS.1), &[report("sqlite", failed)], None).unwrap();
        assert!(filled.contains("| no result: 3 errors |"), "{filled}");
        assert_eq!(filled.matches(MARKS.1).count(), 1, "{filled}");
        let skipped = Row::skipped("append@8".into(), "no such method".into());
        let filled = fill(&format!("{}\n{}", MARKS.0, MARKS.1), &[report("sqlite", skipped)], None).unwrap();
        assert!(filled.contains("| append@8 |  | not measured: no such method |"), "{filled}");
    }
}
