//! The text format of Prometheus, version 0.0.4.

use std::fmt::{self, Write as _};
use std::time::Duration;

use eventodb_store::figures::Distribution;

use super::table::{Kind, Metric, Unit};

/// The type of the content.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
const NANOSECONDS: f64 = 1e9;

/// A scrape that is being written, metric by metric.
#[derive(Default)]
pub(crate) struct Text(String);

/// The series of one metric that is being written.
pub(crate) struct Series<'a> {
    text: &'a mut String,
    metric: &'static Metric,
}

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Whole(u64),
    Real(f64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<Duration> for Value {
    fn from(value: Duration) -> Self {
        Self::Real(value.as_secs_f64())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Real(value) => value.fmt(f),
        }
    }
}

impl Text {
    /// A metric without labels.
    pub(crate) fn one(&mut self, metric: &'static Metric, value: impl Into<Value>) {
        self.series(metric).put(&[], value);
    }

    /// A metric whose label has these values.
    pub(crate) fn each<'a, V: Into<Value>>(
        &mut self,
        metric: &'static Metric,
        values: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        let mut series = self.series(metric);
        values.into_iter().for_each(|(label, value)| series.put(&[label], value));
    }

    /// A histogram without labels.
    pub(crate) fn distribution(&mut self, metric: &'static Metric, distribution: &Distribution) {
        self.series(metric).put_distribution(&[], distribution);
    }

    /// Begins a metric. A metric is written once, with all of its series.
    pub(crate) fn series(&mut self, metric: &'static Metric) -> Series<'_> {
        let Metric { name, kind, help, .. } = metric;
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {}\n", kind.as_str()));
        Series { text: &mut self.0, metric }
    }

    /// All of it.
    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn write(&mut self, text: fmt::Arguments<'_>) {
        self.0.write_fmt(text).expect("a string takes everything");
    }
}

impl Series<'_> {
    /// The value of the series with these values of the metric's labels.
    pub(crate) fn put(&mut self, labels: &[&str], value: impl Into<Value>) {
        debug_assert!(self.metric.kind != Kind::Histogram, "{}", self.metric.name);
        self.line("", labels, None, value.into());
    }

    /// The series of a histogram.
    pub(crate) fn put_distribution(&mut self, labels: &[&str], distribution: &Distribution) {
        debug_assert!(self.metric.kind == Kind::Histogram, "{}", self.metric.name);
        let base = |value: u64| match self.metric.unit {
            Unit::Seconds => Value::Real(value as f64 / NANOSECONDS),
            Unit::Count | Unit::Bytes => Value::Whole(value),
        };
        let bounds = distribution.bounds.iter().map(|bound| base(*bound).to_string()).chain(["+Inf".to_owned()]);
        let sum = base(distribution.sum);
        let mut below = 0;
        for (bound, count) in bounds.zip(&distribution.counts) {
            below += count;
            self.line("_bucket", labels, Some(&bound), below.into());
        }
        self.line("_sum", labels, None, sum);
        self.line("_count", labels, None, below.into());
    }

    fn line(&mut self, suffix: &str, labels: &[&str], bound: Option<&str>, value: Value) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "{}", self.metric.name);
        self.text.push_str(self.metric.name);
        self.text.push_str(suffix);
        let labels = self.metric.labels.iter().copied().zip(labels.iter().copied());
        let mut separator = '{';
        for (name, value) in labels.chain(bound.map(|bound| ("le", bound))) {
            self.text.push(separator);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(self.text, value);
            self.text.push('"');
            separator = ',';
        }
        if separator == ',' {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").expect("a string takes everything");
    }
}

/// Writes the value of a label. Names of namespaces may have any character.
fn escape(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use eventodb_store::figures::Histogram;

    use super::super::table::{ERRORS, REQUEST_DURATION};
    use super::*;

    #[test]
    fn a_label_may_have_any_character() {
        let mut text = Text::default();
        text.each(ERRORS, [("a\"b\\c\nd", 1_u64)]);
        assert!(text.finish().ends_with("\neventodb_errors_total{code=\"a\\\"b\\\\c\\nd\"} 1\n"));
    }

    #[test]
    fn buckets_are_cumulative_and_in_base_units() {
        let histogram = Histogram::new(&[500_000, 1_000_000_000]);
        [400_000, 500_000, 2_000_000, 3_000_000_000].into_iter().for_each(|nanos| histogram.observe(nanos));
        let mut text = Text::default();
        text.series(REQUEST_DURATION).put_distribution(&["stream.get"], &histogram.distribution());
        let text = text.finish();
        let lines: Vec<_> =
            text.lines().skip(2).map(|line| line.trim_start_matches("eventodb_request_duration_seconds")).collect();
        assert_eq!(
            lines,
            [
                "_bucket{method=\"stream.get\",le=\"0.0005\"} 2",
                "_bucket{method=\"stream.get\",le=\"1\"} 3",
                "_bucket{method=\"stream.get\",le=\"+Inf\"} 4",
                "_sum{method=\"stream.get\"} 3.0029",
                "_count{method=\"stream.get\"} 4",
            ]
        );
    }
}
