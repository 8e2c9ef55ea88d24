//! The rows of the view: 80 columns, and one row less than the 24 of a terminal. Rates are those since the sample before.

use std::collections::HashMap;

use eventodb_client::performance::{
    GroupFigures, Groups, Pattern, Performance, SlowRequest, Statistics, Subscriptions,
};

use super::Sample;
use crate::commands::output::visible;

/// In place of the first row, if the server does not answer.
pub(super) const STALE: &str = "The server does not answer. These are the last figures.";
/// Rows in all. Patterns have those that are left.
const ROWS: usize = 23;
/// Groups that are shown.
const GROUPS: usize = 2;
/// Slow requests that are shown.
const SLOW: usize = 4;
const MIB: f64 = 1_048_576.0;

/// One of the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// The head of a table.
    Head(String),
    /// All others.
    Text(String),
}

impl Row {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Head(text) | Self::Text(text) => text,
        }
    }
}

/// Remembers the sample before.
#[derive(Debug, Default)]
pub(super) struct View {
    before: Option<Before>,
}

#[derive(Debug)]
struct Before {
    uptime: f64,
    cpu: f64,
    all: Counts,
    pokes: u64,
    patterns: HashMap<Name, Counts>,
}

/// A method and a namespace.
type Name = (String, Option<String>);

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    total: u64,
    refused: u64,
    failed: u64,
    slow: u64,
    /// How long all of them took together.
    ms: f64,
}

impl Counts {
    fn of(statistics: &Statistics) -> Self {
        let Statistics { total, refused, failed, slow, average_ms, .. } = *statistics;
        Self { total, refused, failed, slow, ms: average_ms * total as f64 }
    }

    /// What came since `before`; all of it if the server has begun anew.
    fn since(self, before: Self) -> Self {
        if before.total > self.total {
            return self;
        }
        Self {
            total: self.total - before.total,
            refused: self.refused.saturating_sub(before.refused),
            failed: self.failed.saturating_sub(before.failed),
            slow: self.slow.saturating_sub(before.slow),
            ms: (self.ms - before.ms).max(0.0),
        }
    }
}

impl View {
    /// The rows about a sample.
    pub(super) fn of(&mut self, sample: &Sample) -> Vec<Row> {
        let Sample { performance, queries, groups } = sample;
        let now = Before {
            uptime: performance.system.uptime_seconds,
            cpu: performance.system.cpu_seconds,
            all: Counts::of(&performance.requests.process),
            pokes: groups.subscriptions.pokes,
            patterns: queries.patterns.iter().map(|of| (name(of), Counts::of(&of.statistics))).collect(),
        };
        // A server that is younger than before is another one.
        let before = self.before.take().filter(|before| before.uptime < now.uptime);
        let mut rows = head(performance, before.as_ref(), &now);
        rows.push(subscriptions(&groups.subscriptions, before.as_ref(), &now));
        rows.extend(periods(performance));
        let below: Vec<Row> =
            of_groups(groups).into_iter().chain(slow(&queries.recent_slow, queries.slow_threshold_ms)).collect();
        rows.extend(patterns(&queries.patterns, before.as_ref(), &now).take(ROWS - rows.len() - below.len()));
        rows.extend(below);
        self.before = Some(now);
        rows
    }
}

fn name(pattern: &Pattern) -> Name {
    (pattern.method.clone(), pattern.namespace.clone())
}

fn head(of: &Performance, before: Option<&Before>, now: &Before) -> Vec<Row> {
    let system = &of.system;
    // Without a sample before: over all of the time.
    let (counts, seconds, cpu) = match before {
        Some(before) => (now.all.since(before.all), now.uptime - before.uptime, now.cpu - before.cpu),
        None => (now.all, of.requests.process.seconds, now.cpu),
    };
    let rate = |count: u64| rate(count as f64 / seconds.max(0.001));
    let cpu_seconds = if before.is_some() { seconds } else { system.uptime_seconds };
    let cpu = cpu * 100.0 / cpu_seconds.max(0.001);
    let [resident, taken, budget] =
        [system.resident_bytes, system.memory_taken_bytes, system.memory_budget_bytes].map(|bytes| bytes as f64 / MIB);
    let rows = [
        format!(
            "eventodb {} on {}, up {}, counted since {:.19}Z",
            of.version,
            of.backend,
            age(now.uptime),
            of.since.to_string()
        ),
        format!(
            "{} requests/s   {} slow/s   {} refused/s   {} failed/s",
            rate(counts.total),
            rate(counts.slow),
            rate(counts.refused),
            rate(counts.failed)
        ),
        format!(
            "cpu {cpu:.0} % of {} CPUs   memory {resident:.0} MiB   budget {taken:.0} of {budget:.0} MiB   {} connections",
            system.cpus, system.connections
        ),
    ];
    rows.map(Row::Text).into()
}

fn subscriptions(of: &Subscriptions, before: Option<&Before>, now: &Before) -> Row {
    let pokes = match before {
        Some(before) => now.pokes.saturating_sub(before.pokes) as f64 / (now.uptime - before.uptime),
        None => now.pokes as f64 / now.uptime.max(0.001),
    };
    Row::Text(format!(
        "{} subscriptions   {} pokes/s, within {} ms   slowest {} messages behind",
        of.stream + of.category + of.all,
        rate(pokes),
        latency(of.poke_delay.recent_max_ms),
        of.slowest_lag
    ))
}

fn periods(of: &Performance) -> impl Iterator<Item = Row> {
    let requests = &of.requests;
    let row = |[name, rate, avg, p50, p95, p99, p999, max, slow]: [&str; 9]| {
        format!("{name:<12}{rate:>10}{avg:>8}{p50:>8}{p95:>8}{p99:>8}{p999:>8}{max:>8}{slow:>10}")
    };
    let of_period = |(name, of): (&str, &Statistics)| {
        let [avg, p50, p95, p99, p999, max] =
            [of.average_ms, of.p50_ms, of.p95_ms, of.p99_ms, of.p999_ms, of.max_ms].map(latency);
        let slow = format!("{:.1} %", of.slow_percent);
        row([name, &rate(of.per_second), &avg, &p50, &p95, &p99, &p999, &max, &slow])
    };
    let all = [
        ("1 minute", &requests.last_minute),
        ("5 minutes", &requests.last5_minutes),
        ("60 minutes", &requests.last60_minutes),
        ("all", &requests.process),
    ];
    let head = row(["IN MS", "PER S", "AVG", "P50", "P95", "P99", "P99.9", "MAX", "SLOW"]);
    let rows: Vec<_> = all.into_iter().map(of_period).map(Row::Text).collect();
    std::iter::once(Row::Head(head)).chain(rows)
}

/// The patterns that took the most time since the sample before.
fn patterns(all: &[Pattern], before: Option<&Before>, now: &Before) -> impl Iterator<Item = Row> {
    let seconds = before.map(|before| now.uptime - before.uptime);
    let mut rows: Vec<(Counts, f64, &Pattern)> = all
        .iter()
        .map(|pattern| {
            let counts = Counts::of(&pattern.statistics);
            let earlier = before.and_then(|before| before.patterns.get(&name(pattern))).copied().unwrap_or_default();
            let counts = counts.since(earlier);
            (counts, counts.total as f64 / seconds.unwrap_or(pattern.statistics.seconds).max(0.001), pattern)
        })
        .collect();
    rows.sort_by(|a, b| b.0.ms.total_cmp(&a.0.ms));
    let row = |[method, namespace, rate, avg, p50, p99, max]: [&str; 7]| {
        format!("{method:<22}{namespace:<17}{rate:>9}{avg:>8}{p50:>8}{p99:>8}{max:>8}")
    };
    let of_pattern = |(_, per_second, pattern): (Counts, f64, &Pattern)| {
        let of = &pattern.statistics;
        let [avg, p50, p99, max] = [of.average_ms, of.p50_ms, of.p99_ms, of.max_ms].map(latency);
        let [method, namespace] = names(&pattern.method, pattern.namespace.as_deref(), [21, 16]);
        row([&method, &namespace, &rate(per_second), &avg, &p50, &p99, &max])
    };
    let head = row(["METHOD", "NAMESPACE", "PER S", "AVG", "P50", "P99", "MAX"]);
    let rows: Vec<_> = rows.into_iter().take(ROWS).map(of_pattern).map(Row::Text).collect();
    std::iter::once(Row::Head(head)).chain(rows)
}

/// The groups that are farthest behind.
fn of_groups(of: &Groups) -> Vec<Row> {
    if of.groups.is_empty() {
        return Vec::new();
    }
    let row = |[group, namespace, lag, oldest, parked, since, unowned]: [&str; 7]| {
        format!("{group:<22}{namespace:<17}{lag:>9}{oldest:>8}{parked:>8}{since:>8}{unowned:>8}")
    };
    let of_group = |of: &GroupFigures| {
        let [group, namespace] = [cut(&of.group, 21), cut(&of.namespace, 16)];
        let [lag, parked, unowned] =
            [of.lag_messages, of.parked_streams, of.unowned_partitions].map(|count| count.to_string());
        let since = |count: u64, seconds: f64| if count == 0 { String::new() } else { age(seconds) };
        let [oldest, since] = [since(of.lag_messages, of.lag_seconds), since(of.parked_streams, of.parked_seconds)];
        row([&group, &namespace, &lag, &oldest, &parked, &since, &unowned])
    };
    let head = row(["GROUP", "NAMESPACE", "BEHIND", "OLDEST", "PARKED", "FOR", "UNOWNED"]);
    let rows = of.groups.iter().take(GROUPS).map(of_group).map(Row::Text);
    std::iter::once(Row::Head(head)).chain(rows).collect()
}

fn slow(recent: &[SlowRequest], threshold_ms: f64) -> Vec<Row> {
    if recent.is_empty() {
        return vec![Row::Head(format!("{:<80}", format!("NO REQUEST TOOK LONGER THAN {threshold_ms} MS")))];
    }
    let row = |[time, method, namespace, ms, status, request]: [&str; 6]| {
        format!("{time:<10}{method:<18}{namespace:<13}{ms:>8}{status:>8}  {request}")
    };
    let of_request = |slow: &SlowRequest| {
        let [method, namespace] = names(&slow.method, slow.namespace.as_deref(), [17, 12]);
        let time = slow.time.to_string();
        let status = slow.status.to_string();
        let time = time.get(11..19).unwrap_or_default();
        row([time, &method, &namespace, &latency(slow.duration_ms), &status, &cut(&slow.request_id, 21)])
    };
    let head = format!("{:<80}", row(["SLOW AT", "METHOD", "NAMESPACE", "MS", "STATUS", "REQUEST"]));
    let rows = recent.iter().take(SLOW).map(of_request).map(Row::Text);
    std::iter::once(Row::Head(head)).chain(rows).collect()
}

/// A method or path and a namespace, in at most this many columns each.
fn names(method: &str, namespace: Option<&str>, most: [usize; 2]) -> [String; 2] {
    // All paths of an interface begin alike.
    let method = method.strip_prefix("/api/v1").unwrap_or(method);
    [cut(method, most[0]), cut(namespace.unwrap_or("-"), most[1])]
}

fn cut(text: &str, most: usize) -> String {
    let text = visible(text);
    if text.chars().count() <= most { text } else { text.chars().take(most - 1).chain(['…']).collect() }
}

/// Milliseconds, and seconds from ten of them on: seven columns at most, so that a space is left.
fn latency(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2}"),
        ..100.0 => format!("{ms:.1}"),
        ..10_000.0 => format!("{ms:.0}"),
        _ => format!("{:.0} s", ms / 1e3),
    }
}

fn rate(per_second: f64) -> String {
    if per_second > 0.0 && per_second < 10.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

fn age(seconds: f64) -> String {
    match seconds as u64 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use eventodb_client::Timestamp;
    use eventodb_client::performance::{Operation, Periods, Queries, System};

    use super::*;

    fn statistics(total: u64, ms: f64) -> Statistics {
        Statistics { seconds: 60.0, total, average_ms: ms, p50_ms: ms, max_ms: ms, ..Statistics::default() }
    }

    fn pattern(method: &str, namespace: &str, total: u64) -> Pattern {
        Pattern {
            operation: Operation::Read,
            method: method.to_owned(),
            namespace: Some(namespace.to_owned()),
            statistics: statistics(total, 1e7),
        }
    }

    fn sample(uptime_seconds: f64, patterns: Vec<Pattern>) -> Sample {
        let since = Timestamp::from_micros(0);
        let group = GroupFigures {
            namespace: "a-namespace-with-a-very-long-name".to_owned(),
            group: "a-group-with-a-very-long-name".to_owned(),
            lag_messages: 20_000_000,
            lag_seconds: 1e6,
            parked_streams: 1_000_000,
            parked_seconds: 1e6,
            unowned_partitions: 1_024,
        };
        let all = statistics(patterns.iter().map(|pattern| pattern.statistics.total).sum(), 1e7);
        let requests = Periods {
            process: all.clone(),
            last_minute: Statistics { per_second: 123_456.789, slow_percent: 100.0, ..all.clone() },
            last5_minutes: all.clone(),
            last60_minutes: all,
        };
        let system = System { uptime_seconds, cpu_seconds: uptime_seconds / 2.0, cpus: 128, ..System::default() };
        let slow = SlowRequest {
            time: since,
            method: "/api/v1/performance/queries".to_owned(),
            namespace: Some("a-very-long-namespace\u{1b}[31m".to_owned()),
            duration_ms: 1e7,
            wait_ms: 0.0,
            status: 200,
            code: None,
            request_id: "a-very-long-id-of-a-request".to_owned(),
        };
        Sample {
            performance: Performance {
                version: "0.2.0".to_owned(),
                backend: "postgres".to_owned(),
                since,
                slow_threshold_ms: 100.0,
                requests,
                system,
                series: None,
            },
            queries: Queries {
                since,
                slow_threshold_ms: 100.0,
                patterns,
                recent_slow: vec![slow; 10],
                top_slow: Vec::new(),
            },
            groups: Groups { groups: vec![group; 5], ..Groups::default() },
        }
    }

    #[test]
    fn it_fits_a_terminal_of_80_columns_and_24_rows() {
        let long = pattern("/api/v1/performance/queries", "a-namespace-with-a-very-long-name", 1_000_000_000);
        let full = sample(1e6, vec![long; 20]);
        let mut empty = full.clone();
        (empty.groups, empty.queries.recent_slow) = (Groups::default(), Vec::new());
        for sample in [full, empty] {
            let rows = View::default().of(&sample);
            assert_eq!(rows.len(), ROWS);
            for row in rows {
                assert!(row.text().chars().count() <= 80, "{row:?}");
                assert!(!row.text().contains('\u{1b}'), "{row:?}");
            }
        }
    }

    #[test]
    fn rates_are_those_since_the_sample_before() {
        let mut view = View::default();
        view.of(&sample(100.0, vec![pattern("stream.get", "a", 1_000), pattern("stream.write", "a", 10)]));
        let rows = view.of(&sample(102.0, vec![pattern("stream.get", "a", 1_010), pattern("stream.write", "a", 410)]));
        assert!(rows[1].text().starts_with("205 requests/s"), "{:?}", rows[1]);
        assert!(rows[2].text().starts_with("cpu 50 % of 128"), "{:?}", rows[2]);
        let at = rows.iter().position(|row| row.text().starts_with("METHOD")).expect("there is a table of patterns");
        let found: Vec<Vec<_>> =
            rows[at + 1..at + 3].iter().map(|row| row.text().split_whitespace().take(3).collect()).collect();
        assert_eq!(found, [["stream.write", "a", "200"], ["stream.get", "a", "5.0"]], "the busiest first");
        let rows = view.of(&sample(3.0, vec![pattern("stream.get", "a", 60)]));
        assert!(rows[1].text().starts_with("1.0 requests/s"), "another server: {:?}", rows[1]);
    }
}
