//! Several reports beside each other, one a column: usually one a backend.

use super::{Report, Row};

/// Reports with the names that tell them apart.
#[derive(Debug)]
pub(super) struct Beside<'a> {
    /// A name and its report.
    pub(super) columns: Vec<(String, &'a Report)>,
}

impl<'a> Beside<'a> {
    /// Each report is named for its backend; one that has the name of an earlier one gets a number.
    pub(super) fn new(reports: &'a [Report]) -> Self {
        let name = |(at, report): (usize, &'a Report)| {
            let earlier = reports[..at].iter().filter(|other| other.backend() == report.backend()).count();
            let name = match earlier {
                0 => report.backend().to_owned(),
                _ => format!("{} {}", report.backend(), earlier + 1),
            };
            (name, report)
        };
        Self { columns: reports.iter().enumerate().map(name).collect() }
    }

    /// The names of all rows, in the order in which they come up.
    pub(super) fn rows(&self) -> Vec<&'a str> {
        distinct(self.columns.iter().flat_map(|(_, report)| report.rows.iter().map(|row| row.name.as_str())))
    }

    /// The row of that name in each report that measured it.
    pub(super) fn measured(&self, name: &str) -> Vec<(&str, &'a Row)> {
        let rows = self.columns.iter().filter_map(|(column, report)| Some((column.as_str(), report.row(name)?)));
        rows.filter(|(_, row)| row.skipped.is_none()).collect()
    }

    /// Where and with what was measured: the name of each fact, and its value in each column.
    pub(super) fn facts(&self) -> Vec<(&'a str, Vec<&'a str>)> {
        let names = distinct(self.columns.iter().flat_map(|(_, report)| report.environment.keys().map(String::as_str)));
        let values = |name| {
            self.columns.iter().map(|(_, report)| report.environment.get(name).map_or("", String::as_str)).collect()
        };
        names.into_iter().map(|name| (name, values(name))).collect()
    }

    /// What a reader must know before any figure.
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
                    warnings
                        .push(format!("{name}, {}: no result, {} errors, the first: {error}", row.name, row.errors));
                }
            }
        }
        warnings
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn report(backend: &str, rows: &[&str]) -> Report {
        let rows = rows.iter().map(|name| Row { name: (*name).to_owned(), ..Row::default() }).collect();
        Report { environment: [("backend".to_owned(), backend.to_owned())].into(), rows, ..Report::default() }
    }

    #[test]
    fn columns_are_told_apart_and_rows_come_once() {
        let reports = [report("sqlite", &["write@1", "write@64"]), report("sqlite", &["write@64", "append@8"])];
        let beside = Beside::new(&reports);
        assert_eq!(beside.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["sqlite", "sqlite 2"]);
        assert_eq!(beside.rows(), ["write@1", "write@64", "append@8"]);
        assert_eq!(beside.measured("write@64").len(), 2);
        assert_eq!(beside.facts(), [("backend", vec!["sqlite", "sqlite"])]);
    }

    #[test]
    fn what_is_no_result_is_told_first() {
        let mut report = report("postgres", &["write@64"]);
        report.rows[0].errors = 2;
        report.rows[0].first_error = Some("refused".to_owned());
        report.interrupted = true;
        let warnings = Beside::new(&[report]).warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[1].contains("no result, 2 errors, the first: refused"), "{warnings:?}");
    }
}
