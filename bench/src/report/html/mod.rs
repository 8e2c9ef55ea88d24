//! Reports as one page with charts. It opens without a network: it has no scripts and loads nothing from elsewhere.
//!
//! Several reports stand beside each other, one colour each.

mod chart;
mod series;

use minijinja::value::Serde;
use minijinja::{Value, context};

pub use self::series::{Picture, pictures};
use super::Report;
use super::view::{COLOURS, View, render};

/// The style of a page, and of a drawing in a page or alone.
const STYLE: &str = include_str!("../templates/style.css");
const CHART_STYLE: &str = include_str!("../templates/chart.css");

/// With more rows than this the charts of each open at a click; otherwise they are shown at once.
const OPEN_ROWS: usize = 4;

/// The page.
pub fn html(reports: &[Report]) -> String {
    let view = View::new(reports);
    let row = |&name: &&str| {
        let results = view.shown(name);
        let is_measured = results.iter().flatten().any(|shown| shown.row.skipped.is_none());
        let results = Value::from(Serde(results));
        (is_measured, context! { name, results, is_measured, charts => series::charts(&view, name) })
    };
    let rows: Vec<_> = view.rows().iter().map(row).collect();
    let is_open = rows.iter().filter(|(is_measured, _)| *is_measured).count() <= OPEN_ROWS;
    let rows: Vec<_> = rows.into_iter().map(|(_, row)| row).collect();
    let title = format!("EventoDB bench: {}", view.names().join(", "));
    let style = format!("{CHART_STYLE}{STYLE}");
    let (warnings, facts, colours) = (view.warnings(), Value::from(Serde(view.facts())), COLOURS);
    render("page.html", context! { title, style, warnings, facts, rows, is_open, colours }, |text| text)
}

#[cfg(test)]
mod tests {
    use super::super::{Figures, Round, Row, Target, tests};
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
        let mut row = Row { target: Some(target), of_noop: Some(0.6), ..tests::row(row, Figures::default()) };
        row.push(round);
        tests::report(backend, row)
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
        assert!(page.contains("&lt;script&gt;alert(&#x27;1&#x27;)&lt;&#x2f;script&gt;&amp;"), "{page}");
    }

    #[test]
    fn a_report_without_series_is_a_page_too() {
        let mut bare = report("sqlite", "write@64");
        bare.rows[0].rounds.clear();
        assert!(!html(&[bare]).contains("<svg"));
        assert!(html(&[]).contains("</html>"));
    }
}
