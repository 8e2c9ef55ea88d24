//! Reports as one page with charts, which opens without a network: no scripts, nothing from elsewhere.
//!
//! Several reports stand beside each other, one colour each.

mod chart;
mod series;

pub use self::series::Picture;
pub(in crate::report) use self::series::pictures;

use std::fmt::Write as _;

use super::beside::Beside;
use super::number::{count, ms, rate};
use super::{Figures, Report, Row};

const STYLE: &str = include_str!("style.css");

/// Rows up to which their charts are shown at once; of more, each opens at a click.
const OPEN_ROWS: usize = 4;

const HEAD: [&str; 13] = [
    "operation",
    "",
    "ops/s",
    "messages/s",
    "avg",
    "p50",
    "p95",
    "p99",
    "p99.9",
    "max",
    "of no-op",
    "memory",
    "target",
];

/// The page.
pub fn html(reports: &[Report]) -> String {
    let beside = Beside::new(reports);
    let names: Vec<&str> = beside.columns.iter().map(|(name, _)| name.as_str()).collect();
    let title = format!("EventoDB bench: {}", escape(&names.join(", ")));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n",
        chart::STYLE
    );
    warnings(&mut page, &beside);
    facts(&mut page, &beside);
    summary(&mut page, &beside);
    let rows: Vec<&str> = beside.rows().into_iter().filter(|name| !beside.measured(name).is_empty()).collect();
    for name in &rows {
        details(&mut page, &beside, name, rows.len() <= OPEN_ROWS);
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn warnings(page: &mut String, beside: &Beside<'_>) {
    let warnings = beside.warnings();
    if warnings.is_empty() {
        return;
    }
    page.push_str("<ul class=\"warnings\">\n");
    for warning in warnings {
        let _ = writeln!(page, "<li>{}</li>", escape(&warning));
    }
    page.push_str("</ul>\n");
}

/// Machine, settings and commit; what is the same everywhere is said once.
fn facts(page: &mut String, beside: &Beside<'_>) {
    page.push_str("<dl class=\"facts\">\n");
    for (name, values) in beside.facts() {
        let _ = write!(page, "<div><dt>{}</dt>", escape(name));
        if values.iter().all(|value| *value == values[0]) {
            let _ = write!(page, "<dd>{}</dd>", escape(values[0]));
        } else {
            for (at, value) in values.iter().enumerate() {
                let _ = write!(page, "<dd>{}{}</dd>", key(at), escape(value));
            }
        }
        page.push_str("</div>\n");
    }
    page.push_str("</dl>\n");
}

fn summary(page: &mut String, beside: &Beside<'_>) {
    page.push_str("<div class=\"scroll\"><table class=\"summary\">\n<thead><tr>");
    for head in HEAD {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr></thead>\n");
    for name in beside.rows() {
        page.push_str("<tbody>\n");
        let rows = beside.columns.iter().enumerate().filter_map(|(at, (_, report))| Some((at, report.row(name)?)));
        for (nth, (at, row)) in rows.enumerate() {
            let link = match nth {
                0 => format!("<a href=\"#{0}\">{0}</a>", escape(name)),
                _ => String::new(),
            };
            let _ = writeln!(page, "<tr><td>{link}</td><td>{}</td>{}</tr>", key(at), cells(row));
        }
        page.push_str("</tbody>\n");
    }
    page.push_str("</table></div>\n<p class=\"note\">Latencies in milliseconds; medians of the rounds.</p>\n");
}

fn cells(row: &Row) -> String {
    let rest = HEAD.len() - 2;
    if let Some(why) = &row.skipped {
        return format!("<td class=\"none\" colspan=\"{rest}\">not measured: {}</td>", escape(why));
    }
    if !row.is_result() {
        return format!("<td class=\"missed\" colspan=\"{rest}\">no result: {} errors</td>", row.errors);
    }
    let figures = &row.figures;
    let latencies = [figures.avg, figures.p50, figures.p95, figures.p99, figures.p999, figures.max];
    let numbers = [rate(figures.ops), rate(figures.messages)].into_iter().chain(latencies.into_iter().map(ms));
    let mut cells: String = numbers.map(|number| format!("<td>{number}</td>")).collect();
    cells.push_str(&row.of_noop.map_or_else(|| "<td></td>".to_owned(), bar));
    let memory =
        if figures.resident_mib > 0.0 { format!("{} MiB", count(figures.resident_mib)) } else { String::new() };
    let _ = write!(cells, "<td>{memory}</td>");
    cells.push_str("<td class=\"target\">");
    for outcome in row.outcomes() {
        let (verdict, target, detail) = (outcome.verdict, escape(&outcome.target), escape(&outcome.detail));
        let _ = write!(cells, "<div class=\"{verdict}\"><b>{verdict}</b> {target} <small>{detail}</small></div>");
    }
    cells.push_str("</td>");
    cells
}

/// A share of the no-op ceiling, as a number and as a bar.
fn bar(share: f64) -> String {
    let width = (share * 100.0).clamp(0.0, 100.0);
    format!("<td class=\"share\" style=\"--share:{width:.0}%\">{share:.2}</td>")
}

/// The charts of one row.
fn details(page: &mut String, beside: &Beside<'_>, name: &str, is_open: bool) {
    let open = if is_open { " open" } else { "" };
    let id = escape(name);
    let _ = write!(page, "<details{open}>\n<summary><h2>{id}</h2>");
    for (column, row) in beside.measured(name) {
        let at = beside.columns.iter().position(|(other, _)| other == column).unwrap_or_default();
        let (ops, p99) = (rate(row.figures.ops), ms(row.figures.p99));
        let _ = write!(page, "<span>{}{} {ops}/s, p99 {p99} ms</span>", key(at), escape(column));
    }
    // Whoever is sent to what lies inside finds it opened.
    let _ = writeln!(page, "</summary>\n<div class=\"charts\" id=\"{id}\">");
    for chart in series::charts(beside, name) {
        page.push_str(&chart.svg());
    }
    rounds(page, beside, name);
    page.push_str("</div>\n</details>\n");
}

/// Each round by itself: how far they differ, and what they cost.
fn rounds(page: &mut String, beside: &Beside<'_>, name: &str) {
    page.push_str(
        "<figure><figcaption><b>Rounds</b></figcaption>\n<div class=\"scroll\"><table>\n<thead><tr><th></th>",
    );
    for head in ["ops/s", "p50", "p99", "max", "settled after", "generator", "server"] {
        let _ = write!(page, "<th>{head}</th>");
    }
    page.push_str("</tr></thead>\n");
    for (at, (_, report)) in beside.columns.iter().enumerate() {
        page.push_str("<tbody>\n");
        let rounds = report.row(name).into_iter().flat_map(|row| &row.rounds);
        for (number, round) in rounds.enumerate() {
            let figures = &round.figures;
            let _ = write!(page, "<tr><td>{}{}</td><td>{}</td>", key(at), number + 1, rate(figures.ops));
            for latency in [figures.p50, figures.p99, figures.max] {
                let _ = write!(page, "<td>{}</td>", ms(latency));
            }
            let _ = write!(page, "<td>{:.1} s</td>", figures.settle_s);
            let _ = writeln!(page, "<td>{:.2}</td><td>{:.2}</td></tr>", figures.generator_cpu, figures.server_cpu);
        }
        page.push_str("</tbody>\n");
    }
    page.push_str("</table></div>\n<p class=\"note\">Latencies in milliseconds; generator and server in cores.</p>\n");
    for (at, (_, report)) in beside.columns.iter().enumerate() {
        for note in report.row(name).map(notes).unwrap_or_default() {
            let _ = writeln!(page, "<p class=\"note\">{}{}</p>", key(at), escape(&note));
        }
    }
    page.push_str("</figure>\n");
}

/// What a row has besides its latencies, and what was measured in turn with it.
fn notes(row: &Row) -> Vec<String> {
    let measured = |(name, figures): (&String, &Figures)| {
        format!("{name}: {}/s, {} messages/s, p50 {}", rate(figures.ops), rate(figures.messages), ms(figures.p50))
    };
    let readings = (!row.readings.is_empty()).then(|| row.readings_text());
    readings.into_iter().chain(row.beside.iter().map(measured)).collect()
}

/// The colour of a report.
fn key(at: usize) -> String {
    format!("<i class=\"key c{}\"></i>", at % chart::COLOURS)
}

/// Text that is nothing but text, also between quotes.
fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(character),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::{Round, Target};
    use super::*;
    use crate::measure::{Bucket, Second};

    fn report(backend: &str, row: &str) -> Report {
        let seconds = (0..5).map(|n| Second { requests: 100 + n, max_ms: 2.0 + n as f64 }).collect();
        let latencies = vec![Bucket { up_to_ms: 1.0, requests: 90 }, Bucket { up_to_ms: 5.0, requests: 10 }];
        let round = Round {
            figures: Figures { ops: 1_234.5, resident_mib: 42.0, ..Figures::default() },
            elapsed_s: 5.0,
            seconds,
            resident_mib: vec![40.0, 41.0, 42.0],
            latencies,
            ..Round::default()
        };
        let target = Target { text: ">= 0.55 x noop".into(), ratio: Some(0.55), held: true };
        let mut row = Row { name: row.into(), target: Some(target), of_noop: Some(0.6), ..Row::default() };
        row.push(round);
        Report {
            environment: [("backend".to_owned(), backend.to_owned())].into(),
            rows: vec![row],
            ..Report::default()
        }
    }

    #[test]
    fn a_page_has_its_charts_and_nothing_from_elsewhere() {
        let page = html(&[report("sqlite", "write@64"), report("postgres", "write@64")]);
        assert_eq!(page.matches("<svg").count(), 5, "{page}");
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        for part in ["1,234", "&gt;= 0.55 x noop", "held", "42 MiB", "<details open>"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        for foreign in ["http:", "https:", "src=", "@import", "url(", "<script", "NaN", "inf"] {
            assert!(!page.contains(foreign), "{foreign}: {page}");
        }
    }

    #[test]
    fn names_are_text_and_nothing_else() {
        let evil = "\"><script>alert('1')</script>&";
        let mut report = report(evil, evil);
        report.rows[0].target = Some(Target { text: evil.into(), ..Target::default() });
        report.rows.push(Row::skipped("append@8".to_owned(), evil.to_owned()));
        report.environment.insert(evil.to_owned(), evil.to_owned());
        let page = html(&[report]);
        assert!(!page.contains("<script") && !page.contains("\"><s"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;"), "{page}");
    }

    #[test]
    fn a_report_without_series_is_a_page_too() {
        let mut bare = report("sqlite", "write@64");
        bare.rows[0].rounds.clear();
        assert!(!html(&[bare]).contains("<svg"));
        assert!(html(&[]).contains("</html>"));
    }
}
