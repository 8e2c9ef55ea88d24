//! Reports as tables in Markdown: between two marks of a document, so that no figure there is typed by hand, and on the
//! terminal with their columns aligned.

use anyhow::Context as _;
use minijinja::value::Serde;
use minijinja::{Value, context};

use super::view::{View, render};
use super::{Report, pictures};

/// The marks around the tables, each on a line of its own.
const MARKS: (&str, &str) = ("<!-- bench:begin -->", "<!-- bench:end -->");

/// The document with the tables of the reports between its marks, and with their pictures if these are in the directory
/// `shown_from`, as seen from the document.
///
/// # Errors
/// The document does not have the marks, once each and in order.
pub fn fill(document: &str, reports: &[Report], shown_from: Option<&str>) -> anyhow::Result<String> {
    let (begin, end) = (place(document, MARKS.0)? + MARKS.0.len(), place(document, MARKS.1)?);
    anyhow::ensure!(begin <= end, "{} stands before {}", MARKS.1, MARKS.0);
    let tables = tables(reports, shown_from, ("**", "<br>"), cell);
    let head = "Written by `eventodb bench report`. Latencies are in milliseconds.";
    Ok(format!("{}\n\n{head}\n{tables}\n{}", &document[..begin], &document[end..]))
}

/// The position of the one line that is this mark. The text of a document may name the mark elsewhere.
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

/// The tables of a report for a terminal, latencies in milliseconds; below them what was not measured.
pub fn table(report: &Report) -> String {
    let plain = |text: String| text.replace(|character: char| character.is_control(), " ");
    let mut text = aligned(&tables(std::slice::from_ref(report), None, ("", "; "), plain));
    for row in &report.rows {
        if let Some(why) = &row.skipped {
            text.push_str(&format!("{}: not measured: {why}\n", row.name));
        }
    }
    if report.interrupted {
        let has_figures = report.rows.iter().any(|row| row.skipped.is_none());
        text.push_str(match has_figures {
            true => "broken off: these are the figures until then\n",
            false => "broken off before anything was measured\n",
        });
    }
    text
}

fn tables(
    reports: &[Report],
    shown_from: Option<&str>,
    (strong, line_break): (&str, &str),
    cell: fn(String) -> String,
) -> String {
    let view = View::new(reports);
    let row = |&name: &&str| context! { name, results => Value::from(Serde(view.shown(name))) };
    let rows: Vec<_> = view.rows().iter().map(row).collect();
    let picture = |picture: super::Picture| context! { file => picture.file, caption => picture.caption };
    let pictures: Vec<_> = shown_from.map(|_| pictures(reports)).into_iter().flatten().map(picture).collect();
    let (names, warnings, facts) = (Serde(view.names()), view.warnings(), Value::from(Serde(view.facts())));
    let style = context! { shown_from => Serde(shown_from), strong => Serde(strong), break => Serde(line_break) };
    render("tables.md", context! { names, warnings, facts, rows, pictures, ..style }, cell)
}

/// The text with the columns of each table made equally wide, and without the lines below heads.
fn aligned(text: &str) -> String {
    let mut aligned = String::new();
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("| ---")).collect();
    for block in lines.chunk_by(|a, b| a.starts_with('|') == b.starts_with('|')) {
        let rows: Vec<Vec<&str>> = block.iter().map(|line| line.split(" | ").collect()).collect();
        let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let widths: Vec<usize> = (0..rows.iter().map(Vec::len).max().unwrap_or(0)).filter_map(width).collect();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
            let line = cells.collect::<Vec<_>>().join("  ");
            aligned.push_str(line.trim_start_matches("| ").trim_end_matches(['|', ' ']));
            aligned.push('\n');
        }
    }
    aligned
}

/// Text that neither ends a cell nor begins a mark-up.
fn cell(text: String) -> String {
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
    use super::super::tests::report;
    use super::super::{Figures, Row, Target, tests};
    use super::*;

    fn row(held: bool) -> Row {
        let figures = Figures { ops: 31_193.4, messages: 31_193.4, p50: 1.104, p99: 9.413, ..Figures::default() };
        let target = Target { text: ">= 0.55 x noop".into(), ratio: Some(0.55), held };
        Row { of_noop: Some(0.56), target: Some(target), ..tests::row("write@64", figures) }
    }

    fn empty() -> String {
        format!("{}\n{}", MARKS.0, MARKS.1)
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
        assert!(fill(&empty(), &[], None).is_ok());
        assert!(fill(&format!("{0}\n{0}", empty()), &[], None).is_err());
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
        let filled = fill(&empty(), &[report("sqlite", failed)], None).unwrap();
        assert!(filled.contains("| no result: 3 errors |"), "{filled}");
        assert_eq!(filled.matches(MARKS.1).count(), 1, "{filled}");
        let skipped = Row::skipped("append@8".into(), "no such method".into());
        let filled = fill(&empty(), &[report("sqlite", skipped)], None).unwrap();
        assert!(filled.contains("| append@8 |  | not measured: no such method |"), "{filled}");
    }

    #[test]
    fn a_terminal_shows_the_same_tables_with_aligned_columns() {
        let readings = [("kib_each".to_owned(), 9.126)].into();
        let mut report = report("sqlite", Row { readings, ..row(false) });
        report.rows.push(tests::row("a", Figures::default()));
        report.rows.push(Row::skipped("append@8".into(), "no such method".into()));
        let text = table(&report);
        let result = "missed; 0.56 × no-op, 31,193/s, p50 1.10, p99 9.41, kib_each 9.13";
        assert!(text.contains(&format!("write@64  >= 0.55 x noop  {result}\n")), "{text}");
        assert!(text.contains("a                         0.00/s, p50 0.000"), "{text}");
        assert!(text.ends_with("append@8: not measured: no such method\n"), "{text}");
        assert!(!text.contains("---"), "{text}");
    }
}
