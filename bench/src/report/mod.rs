//! The report of a run, as it is kept in a file and shown.
//!
//! Files of earlier versions can be read. Fields that they do not have are empty.

mod compare;
mod html;
mod number;
mod tables;
mod threshold;
mod view;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

pub use self::compare::{Compared, Comparison, Pair, Tolerance, compare};
pub use self::html::{Picture, html, pictures};
pub use self::tables::{fill, table};
pub use self::threshold::Threshold;
pub use self::view::Target;
use crate::measure::{Bucket, Second};
use crate::target::Verdict;

/// A whole run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// The circumstances by name: backend, durability, cores, kernel, commit, …
    pub environment: BTreeMap<String, String>,
    /// One for each scenario and number of connections.
    pub rows: Vec<Row>,
    /// Whether it was broken off.
    pub interrupted: bool,
}

/// The result of one scenario: the median of its rounds for each figure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The scenario's name, with its connections: `write@64`.
    pub name: String,
    /// The figures.
    pub figures: Figures,
    /// Requests a second as a share of the no-op ceiling's at as many connections, in the same rounds.
    pub of_noop: Option<f64>,
    /// Requests a second that it was to send; without it as many as were answered.
    pub rate: Option<f64>,
    /// Whether it is a figure of the machine and not of the server.
    pub is_ceiling: bool,
    /// Its target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// The verdict on each of its targets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Verdict>,
    /// Figures that are no latencies, by name: kib_each, unexplained_seconds, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: BTreeMap<String, f64>,
    /// The ceilings and scenarios that were measured in turn with it, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub beside: BTreeMap<String, Figures>,
    /// The difference between the best and the worst round, as a share of the median.
    pub spread: f64,
    /// Whether it was broken off: its last round is shorter than the others, or rounds are missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_interrupted: bool,
    /// Requests that failed, in all rounds.
    pub errors: u64,
    /// The first failure.
    pub first_error: Option<String>,
    /// Why it was not measured.
    pub skipped: Option<String>,
    /// The rounds.
    pub rounds: Vec<Round>,
}

/// Figures of a scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Requests a second.
    pub ops: f64,
    /// Messages a second.
    pub messages: f64,
    /// Latencies in milliseconds.
    pub avg: f64,
    /// The median.
    pub p50: f64,
    /// 95 of 100.
    pub p95: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1,000.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
    /// Processor time of the generator, in cores.
    pub generator_cpu: f64,
    /// Processor time of the server, in cores, where it is known.
    pub server_cpu: f64,
    /// Seconds from the last answer until the server had no work left; they are part of the time.
    pub settle_s: f64,
    /// The most memory that the server had in RAM, in MiB; 0 where it is not known.
    pub resident_mib: f64,
}

/// One round of a scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Round {
    /// The figures.
    pub figures: Figures,
    /// How long requests were measured, in seconds.
    pub elapsed_s: f64,
    /// Second by second; the last is as long as is left of the time.
    pub seconds: Vec<Second>,
    /// The `fsync` ceiling in the same seconds, where it ran beside.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fsync_seconds: Vec<Second>,
    /// The server's memory in RAM at the beginning of each second, in MiB, where the server was started for the run.
    pub resident_mib: Vec<f64>,
    /// Latencies by size, ascending.
    pub latencies: Vec<Bucket>,
    /// Figures that are no latencies, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub readings: BTreeMap<String, f64>,
    /// Requests that failed.
    #[serde(skip)]
    pub(crate) errors: u64,
    /// The first failure.
    #[serde(skip)]
    pub(crate) first_error: Option<String>,
}

impl Round {
    /// A figure or reading by its name; a reading counts first.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        self.readings.get(name).copied().or_else(|| self.figures.get(name))
    }
}

impl Row {
    pub(crate) fn skipped(name: String, why: String) -> Self {
        Self { name, skipped: Some(why), ..Self::default() }
    }

    /// A row that could not be measured to its end.
    pub(crate) fn failed(name: String, error: &anyhow::Error) -> Self {
        Self { name, errors: 1, first_error: Some(format!("{error:#}")), ..Self::default() }
    }

    /// Adds a round, and takes the medians anew.
    pub(crate) fn push(&mut self, round: Round) {
        self.errors += round.errors;
        self.first_error = self.first_error.take().or_else(|| round.first_error.clone());
        self.rounds.push(round);
        let rounds = &self.rounds;
        self.figures = Figures::median(rounds.iter().map(|round| round.figures));
        for name in rounds.iter().flat_map(|round| round.readings.keys()) {
            let of = rounds.iter().filter_map(|round| round.readings.get(name).copied());
            self.readings.insert(name.clone(), median(of).unwrap_or_default());
        }
        let ops = || rounds.iter().map(|round| round.figures.ops);
        let range = ops().fold(f64::MIN, f64::max) - ops().fold(f64::MAX, f64::min);
        self.spread = if self.figures.ops > 0.0 { range / self.figures.ops } else { 0.0 };
    }

    /// Notes the verdicts, and whether all targets are reached.
    pub(crate) fn judge(&mut self, verdicts: Vec<Verdict>) {
        let texts: Vec<String> = verdicts.iter().map(ToString::to_string).collect();
        self.target = (!verdicts.is_empty()).then(|| Target {
            text: texts.join("; "),
            ratio: None,
            held: verdicts.iter().all(|verdict| verdict.holds),
        });
        self.verdicts = verdicts;
    }

    /// Whether its figures count: it was measured, and nothing failed.
    pub fn is_result(&self) -> bool {
        self.skipped.is_none() && self.errors == 0
    }

    /// How many rounds there were and how long they measured: `3 × 10 s`.
    pub(crate) fn extent_text(&self) -> String {
        let seconds = median(self.rounds.iter().map(|round| round.elapsed_s)).unwrap_or_default();
        format!("{} × {} s", self.rounds.len(), number::plain((seconds * 10.0).round() / 10.0))
    }

    /// Where it was broken off, in words, if it was.
    pub(super) fn broken_off_text(&self) -> Option<String> {
        let last = self.rounds.last().filter(|_| self.is_interrupted)?;
        let (number, seconds) = (self.rounds.len(), last.elapsed_s);
        Some(format!("broken off, {seconds:.1} s of round {number} measured: the figures until then"))
    }

    /// The scenario's name, without its connections or the size of its batches.
    pub fn operation(&self) -> &str {
        self.name.split_once(['@', '/']).map_or(&self.name, |(operation, _)| operation)
    }
}

impl Figures {
    /// The figure of that name in files.
    pub(crate) fn get(self, name: &str) -> Option<f64> {
        json!(self)[name].as_f64()
    }

    pub(crate) fn median(rounds: impl Iterator<Item = Self>) -> Self {
        let rounds: Vec<serde_json::Value> = rounds.map(|round| json!(round)).collect();
        let mut medians = json!(Self::default());
        for (name, figure) in medians.as_object_mut().into_iter().flatten() {
            *figure = json!(median(rounds.iter().filter_map(|round| round[name].as_f64())).unwrap_or_default());
        }
        serde_json::from_value(medians).expect("the medians have the names and the type of figures")
    }
}

impl Report {
    pub(crate) fn backend(&self) -> &str {
        self.environment.get("backend").map_or("unknown", String::as_str)
    }

    /// Whether it was measured in these circumstances, apart from the load of the machine before.
    pub(crate) fn is_of(&self, environment: &BTreeMap<String, String>) -> bool {
        let settings = |of: &BTreeMap<String, String>| {
            let mut settings = of.clone();
            settings.remove("load before");
            settings
        };
        settings(&self.environment) == settings(environment)
    }

    /// Its rows with results, which need not be measured again.
    pub(crate) fn into_results(self) -> Vec<Row> {
        self.rows.into_iter().filter(|row| row.is_result() && !row.is_interrupted).collect()
    }

    /// Puts the rows in the order of their names or operations; of the same operation they stay as they are.
    pub(crate) fn sort(&mut self, names: &[String]) {
        let place = |row: &Row| {
            let is_it = |name: &String| *name == row.name || row.operation().starts_with(&format!("{name}-"));
            names.iter().position(|name| *name == row.name).or_else(|| names.iter().position(is_it))
        };
        self.rows.sort_by_key(|row| place(row).unwrap_or(usize::MAX));
    }

    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }
}

/// The value in the middle by `key`; `None` of none.
pub(crate) fn median_by<T: Copy>(values: impl IntoIterator<Item = T>, key: impl Fn(T) -> f64) -> Option<T> {
    let mut values: Vec<T> = values.into_iter().collect();
    values.sort_by(|&a, &b| key(a).total_cmp(&key(b)));
    values.get(values.len() / 2).copied()
}

/// The value in the middle; `None` of none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    median_by(values, |value| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A report of one row.
    pub(super) fn report(backend: &str, row: Row) -> Report {
        let environment = [("backend".to_owned(), backend.to_owned())].into();
        Report { environment, rows: vec![row], ..Report::default() }
    }

    /// A row without rounds.
    pub(super) fn row(name: &str, figures: Figures) -> Row {
        Row { name: name.to_owned(), figures, ..Row::default() }
    }

    #[test]
    fn a_row_has_the_median_of_its_rounds_and_their_spread() {
        let mut row = row("write@64", Figures::default());
        for ops in [90.0, 120.0, 100.0] {
            row.push(Round { figures: Figures { ops, ..Figures::default() }, errors: 1, ..Round::default() });
        }
        assert_eq!((row.figures.ops, row.errors, row.operation()), (100.0, 3, "write"));
        assert!((row.spread - 0.3).abs() < 1e-9);
    }

    #[test]
    fn a_report_survives_its_file() {
        let report = report("sqlite", Row::skipped("append@8".into(), "no such method".into()));
        let read: Report = serde_json::from_str(&json!(report).to_string()).unwrap();
        assert_eq!(read.rows[0].skipped.as_deref(), Some("no such method"));
    }

    #[test]
    fn a_file_without_the_newer_figures_is_read() {
        let text = r#"{"environment":{},"rows":[{"name":"write@64","figures":{"ops":9.5},"rounds":[{"seconds":[]}]}]}"#;
        let read: Report = serde_json::from_str(text).unwrap();
        assert_eq!((read.rows[0].figures.ops, read.rows[0].target.is_none()), (9.5, true));
    }

    #[test]
    fn a_target_is_kept_with_its_row() {
        let target = json!({"text": ">= 0.55 x noop", "ratio": 0.55, "held": true});
        let row: Row = serde_json::from_value(json!({"name": "write@64", "target": target})).unwrap();
        assert_eq!(json!(row)["target"], target);
        assert!(json!(Row::default()).get("target").is_none());
    }
}
