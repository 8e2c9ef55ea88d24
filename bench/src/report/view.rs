//! Reports beside each other, one a column, as the page and the tables show them.

use minijinja::{AutoEscape, Environment, Value};
use serde::{Deserialize, Serialize};

use super::{Report, Row, number};

/// The templates, by their names: a page and its drawings, and tables.
const TEMPLATES: [(&str, &str); 4] = [
    ("page.html", include_str!("templates/page.html")),
    ("drawing.svg", include_str!("templates/drawing.svg")),
    ("picture.svg", include_str!("templates/picture.svg")),
    ("tables.md", include_str!("templates/tables.md")),
];

/// Colours that the style sheet has.
pub(super) const COLOURS: usize = 6;

/// The target of a row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// The target in words: `>= 0.55 x noop`.
    pub text: String,
    /// The share of a ceiling that it demands, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Whether the row reached it.
    pub held: bool,
}

/// Reports with the names that tell them apart.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) columns: Vec<(String, &'a Report)>,
}

/// A row of one report.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    /// The name of the report.
    pub(super) label: &'a str,
    pub(super) colour: usize,
    pub(super) row: &'a Row,
    pub(super) is_result: bool,
    /// The number of rounds and how long they measured.
    extent: String,
    outcomes: Vec<Outcome>,
    /// Figures that are no latencies, in words.
    readings: String,
}

/// One target of a row, and whether it was reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Outcome {
    target: String,
    verdict: &'static str,
    /// The figure and its bound, if they are known.
    detail: String,
}

/// A fact about where and with what was measured.
#[derive(Debug, Serialize)]
pub(super) struct Fact<'a> {
    name: &'a str,
    /// Its value in each report.
    values: Vec<&'a str>,
    is_same: bool,
}

impl<'a> View<'a> {
    /// Each report is named for its backend; one with the name of an earlier one gets a number.
    pub(super) fn new(reports: &'a [Report]) -> Self {
        let name = |(at, report): (usize, &'a Report)| {
            let earlier = reports[..at].iter().filter(|other| other.backend() == report.backend()).count();
            let number = if earlier == 0 { String::new() } else { format!(" {}", earlier + 1) };
            (format!("{}{number}", report.backend()), report)
        };
        Self { columns: reports.iter().enumerate().map(name).collect() }
    }

    pub(super) fn names(&self) -> Vec<&str> {
        self.columns.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The names of all rows, in the order in which they come up.
    pub(super) fn rows(&self) -> Vec<&'a str> {
        distinct(self.columns.iter().flat_map(|(_, report)| report.rows.iter().map(|row| row.name.as_str())))
    }

    /// The row of that name in each report, or `None` if the report has none.
    pub(super) fn shown(&self, name: &str) -> Vec<Option<Shown<'_>>> {
        let columns = self.columns.iter().enumerate();
        columns.map(|(at, (label, report))| Some(Shown::new(label, at % COLOURS, report.row(name)?))).collect()
    }

    pub(super) fn facts(&self) -> Vec<Fact<'a>> {
        let names = distinct(self.columns.iter().flat_map(|(_, report)| report.environment.keys().map(String::as_str)));
        let fact = |name| {
            let value = |(_, report): &(String, &'a Report)| report.environment.get(name).map_or("", String::as_str);
            let values: Vec<&str> = self.columns.iter().map(value).collect();
            Fact { name, is_same: values.iter().all(|value| *value == values[0]), values }
        };
        names.into_iter().map(fact).collect()
    }

    /// Notes that a reader needs before any figure.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, report) in &self.columns {
            if report.interrupted {
                warnings.push(format!("{name}: broken off; these are the figures until then"));
            }
            if report.environment.get("build").is_some_and(|build| build != "release") {
                warnings.push(format!("{name}: no release build; its figures mean nothing"));
            }
            for row in &report.rows {
                if let Some(text) = row.broken_off_text() {
                    warnings.push(format!("{name}, {}: {text}", row.name));
                }
                if let Some(error) = &row.first_error {
                    let errors = row.errors;
                    warnings.push(format!("{name}, {}: no result, {errors} errors, the first: {error}", row.name));
                }
            }
        }
        warnings
    }
}

impl<'a> Shown<'a> {
    pub(super) fn new(label: &'a str, colour: usize, row: &'a Row) -> Self {
        let readings: Vec<String> =
            row.readings.iter().map(|(name, value)| format!("{name} {}", number::plain(*value))).collect();
        Self {
            label,
            colour,
            row,
            is_result: row.is_result(),
            extent: row.extent_text(),
            outcomes: outcomes(row),
            readings: readings.join(", "),
        }
    }
}

/// The targets of a row: one by one if its file has them so, else as a whole.
fn outcomes(row: &Row) -> Vec<Outcome> {
    let verdict = |held| if held { "held" } else { "missed" };
    if row.verdicts.is_empty() {
        let whole = |target: &Target| Outcome {
            target: target.text.clone(),
            verdict: verdict(target.held),
            detail: String::new(),
        };
        return row.target.iter().map(whole).collect();
    }
    let single = |one: &crate::target::Verdict| {
        let smaller = if one.is_full { "" } else { " in a smaller run" };
        let detail = format!("{} of {}{smaller}", number::plain(one.value), number::plain(one.limit));
        Outcome { target: one.target.clone(), verdict: verdict(one.holds), detail }
    };
    row.verdicts.iter().map(single).collect()
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// Fills in a template; `cell` makes text safe for a cell of a table.
pub(super) fn render(name: &str, context: Value, cell: fn(String) -> String) -> String {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|name| match name.ends_with(".md") {
        true => AutoEscape::None,
        false => AutoEscape::Html,
    });
    templates.add_filter("count", number::count);
    templates.add_filter("rate", number::rate);
    templates.add_filter("ms", number::ms);
    templates.add_filter("fixed", |value: f64, digits: usize| format!("{value:.digits$}"));
    templates.add_filter("cell", cell);
    for (name, text) in TEMPLATES {
        templates.add_template(name, text).expect("each template is tested");
    }
    let template = templates.get_template(name).expect("the templates stand above");
    template.render(context).expect("each template is tested")
}

#[cfg(test)]
mod tests {
    use super::super::{Figures, tests};
    use super::*;
    use crate::target::Verdict;

    fn report(backend: &str, names: &[&str]) -> Report {
        let rows = names.iter().map(|name| tests::row(name, Figures::default())).collect();
        Report { rows, ..tests::report(backend, Row::default()) }
    }

    #[test]
    fn columns_are_told_apart_and_rows_come_once() {
        let reports = [report("sqlite", &["write@1", "write@64"]), report("sqlite", &["write@64", "append@8"])];
        let view = View::new(&reports);
        assert_eq!(view.names(), ["sqlite", "sqlite 2"]);
        assert_eq!(view.rows(), ["write@1", "write@64", "append@8"]);
        assert_eq!(view.shown("append@8").iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
        let facts = view.facts();
        assert_eq!((facts[0].name, &facts[0].values[..], facts[0].is_same), ("backend", &["sqlite"; 2][..], true));
    }

    #[test]
    fn what_is_no_result_is_told_first() {
        let mut report = report("postgres", &["write@64"]);
        report.rows[0].errors = 2;
        report.rows[0].first_error = Some("refused".to_owned());
        report.interrupted = true;
        let warnings = View::new(&[report]).warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("no result, 2 errors, the first: refused"), "{warnings:?}");
    }

    #[test]
    fn a_row_with_single_verdicts_tells_each() {
        let target = Target { text: "both".into(), held: false, ..Target::default() };
        let mut row = Row { target: Some(target), ..Row::default() };
        assert_eq!(outcomes(&row)[0].target, "both");
        let verdict = Verdict {
            target: "p99 ≤ 8 ms".into(),
            figure: "p99".into(),
            value: 9.413,
            limit: 8.0,
            is_upper: true,
            holds: false,
            is_full: false,
        };
        row.verdicts = vec![verdict.clone(), Verdict { holds: true, is_full: true, value: 17_157.2, ..verdict }];
        let outcomes = outcomes(&row);
        assert_eq!((outcomes[0].verdict, outcomes[0].detail.as_str()), ("missed", "9.41 of 8 in a smaller run"));
        assert_eq!((outcomes[1].verdict, outcomes[1].detail.as_str()), ("held", "17,157 of 8"));
    }
}
