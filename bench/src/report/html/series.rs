//! The charts of a row: its latencies by size, and what happened second by second.

use std::collections::BTreeMap;

use minijinja::{Value, context};

use super::CHART_STYLE;
use super::chart::{Axis, Chart, Line, Scale};
use crate::measure::{Bucket, Second};
use crate::report::view::{COLOURS, Shown, View, render};
use crate::report::{Report, Round, Row};

/// The charts of a row, as far as the reports have figures for them.
pub(super) fn charts(view: &View<'_>, name: &str) -> Vec<Value> {
    drawn(view, name).iter().map(Chart::drawing).collect()
}

fn drawn(view: &View<'_>, name: &str) -> Vec<Chart> {
    let shown: Vec<Shown<'_>> = view.shown(name).into_iter().flatten().collect();
    let clock = Clock::new(&shown);
    let charts = [
        distribution(&shown),
        percentiles(&shown),
        over_time("Throughput, requests/s", "requests/s", &clock, lines(&shown, &clock, throughput)),
        over_time("Slowest in each second, ms", "ms", &clock, slowest(&shown, &clock)),
        over_time("Resident memory of the server, MiB", "MiB", &clock, lines(&shown, &clock, memory)),
    ];
    charts.into_iter().flatten().collect()
}

/// A drawing of a row that was measured for minutes.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The name of its file.
    pub file: String,
    /// What it shows, in words.
    pub caption: String,
    /// The file.
    pub svg: String,
}

/// The slowest request of each second, beside the disk's if it was watched, and the server's memory, for each row that
/// was measured for minutes.
pub fn pictures(reports: &[Report]) -> Vec<Picture> {
    const MINUTES_S: f64 = 60.0;
    let mut found = Vec::new();
    for (at, (label, report)) in View::new(reports).columns.iter().enumerate() {
        let is_long = |row: &&Row| row.is_result() && row.rounds.iter().any(|round| length(round) >= MINUTES_S);
        for row in report.rows.iter().filter(is_long) {
            let shown = [Shown::new(label, at % COLOURS, row)];
            let clock = Clock::new(&shown);
            let resident = lines(&shown, &clock, memory);
            let charts = [
                ("slowest", over_time("slowest in each second, ms", "ms", &clock, slowest(&shown, &clock))),
                ("memory", over_time("resident memory of the server, MiB", "MiB", &clock, resident)),
            ];
            for (what, chart) in charts {
                let Some(chart) = chart else { continue };
                let of = format!("{} on {label}", row.name);
                let file = format!("{}-{what}-{}.svg", row.operation(), label.replace(' ', "-"));
                let caption = format!("{of}: {}", chart.title);
                let drawing = context! { chart => chart.drawing(), of, style => CHART_STYLE };
                found.push(Picture { file, caption, svg: render("picture.svg", drawing, |text| text) });
            }
        }
    }
    found
}

/// Rounds one behind the other on one axis: each begins where the longest of the one before ends.
struct Clock {
    starts: Vec<f64>,
    end: f64,
}

impl Clock {
    fn new(shown: &[Shown<'_>]) -> Self {
        let mut clock = Self { starts: Vec::new(), end: 0.0 };
        let rounds = shown.iter().map(|shown| shown.row.rounds.len()).max().unwrap_or(0);
        for number in 0..rounds {
            let lengths = shown.iter().filter_map(|shown| shown.row.rounds.get(number)).map(length);
            clock.starts.push(clock.end);
            clock.end += lengths.fold(0.0, f64::max);
        }
        clock
    }
}

/// Seconds that a round lasted, as far as is known.
fn length(round: &Round) -> f64 {
    if round.elapsed_s > 0.0 { round.elapsed_s } else { round.seconds.len() as f64 }
}

fn over_time(title: &'static str, unit: &'static str, clock: &Clock, lines: Vec<Line>) -> Option<Chart> {
    let values = || lines.iter().flat_map(|line| line.pieces.iter().flatten()).map(|(_, y)| *y);
    values().next()?;
    let x = Axis { range: (0.0, clock.end.max(1.0)), ..Axis::from_zero("s", std::iter::empty()) };
    let y = Axis::from_zero(unit, values());
    Some(Chart { title, x, y, lines, dividers: clock.starts.iter().skip(1).copied().collect() })
}

/// A line a report, made of a piece a round; `of` gives the round's points from its own start on.
fn lines(shown: &[Shown<'_>], clock: &Clock, of: fn(&Round) -> Vec<(f64, f64)>) -> Vec<Line> {
    let line = |shown: &Shown<'_>| {
        let rounds = shown.row.rounds.iter().zip(&clock.starts);
        let pieces = rounds.map(|(round, start)| of(round).into_iter().map(|(x, y)| (start + x, y)).collect());
        Line { label: shown.label.to_owned(), colour: shown.colour, is_filled: false, pieces: pieces.collect() }
    };
    shown.iter().map(line).filter(|line| line.pieces.iter().any(|piece| !piece.is_empty())).collect()
}

/// How much of a round's second there was: the last is as long as is left.
fn lasted(round: &Round, second: usize) -> f64 {
    (length(round) - second as f64).clamp(0.0, 1.0)
}

/// Each second's requests, at its middle; of the last second the pace, unless it was too short to have one.
fn throughput(round: &Round) -> Vec<(f64, f64)> {
    const SHORTEST: f64 = 0.25;
    let point = |(n, second): (usize, &Second)| {
        let lasted = lasted(round, n);
        (lasted >= SHORTEST).then(|| (n as f64 + lasted / 2.0, second.requests as f64 / lasted))
    };
    round.seconds.iter().enumerate().filter_map(point).collect()
}

fn memory(round: &Round) -> Vec<(f64, f64)> {
    round.resident_mib.iter().enumerate().map(|(n, mib)| (n as f64, *mib)).collect()
}

/// The maximum of each second, and beside it the `fsync` ceiling's where it ran at the same time.
fn slowest(shown: &[Shown<'_>], clock: &Clock) -> Vec<Line> {
    fn maxima(round: &Round, seconds: &[Second]) -> Vec<(f64, f64)> {
        let point = |(n, second): (usize, &Second)| (n as f64 + lasted(round, n) / 2.0, second.max_ms);
        seconds.iter().enumerate().map(point).collect()
    }
    let mut all = lines(shown, clock, |round| maxima(round, &round.seconds));
    all.extend(lines(shown, clock, |round| maxima(round, &round.fsync_seconds)).into_iter().map(|line| Line {
        label: format!("{}: fsync", line.label),
        colour: (line.colour + COLOURS / 2) % COLOURS,
        ..line
    }));
    all
}

/// The latencies of all rounds together, by the bounds of their buckets.
fn merged(row: &Row) -> BTreeMap<u64, Bucket> {
    let mut merged: BTreeMap<u64, Bucket> = BTreeMap::new();
    for bucket in row.rounds.iter().flat_map(|round| &round.latencies).filter(|bucket| bucket.up_to_ms > 0.0) {
        // Positive floating-point numbers are ordered as their bits are.
        let entry = merged.entry(bucket.up_to_ms.to_bits()).or_insert(Bucket { requests: 0, ..*bucket });
        entry.requests += bucket.requests;
    }
    merged
}

/// How many of a hundred requests took about how long.
fn distribution(shown: &[Shown<'_>]) -> Option<Chart> {
    /// A bucket is this much wider than the one before; a gap is where one is missing.
    const WIDEST_STEP: f64 = 1.1;
    let line = |shown: &Shown<'_>| {
        let buckets = merged(shown.row);
        let all: u64 = buckets.values().map(|bucket| bucket.requests).sum();
        let mut points: Vec<(f64, f64)> = Vec::new();
        for bucket in buckets.values() {
            if let Some(&(before, _)) = points.last().filter(|(before, _)| before * WIDEST_STEP < bucket.up_to_ms) {
                points.extend([(before * WIDEST_STEP, 0.0), (bucket.up_to_ms / WIDEST_STEP, 0.0)]);
            }
            points.push((bucket.up_to_ms, bucket.requests as f64 * 100.0 / all as f64));
        }
        let pieces = if points.is_empty() { Vec::new() } else { vec![points] };
        Line { label: shown.label.to_owned(), colour: shown.colour, is_filled: true, pieces }
    };
    let lines: Vec<Line> = shown.iter().map(line).filter(|line| !line.pieces.is_empty()).collect();
    let points = || lines.iter().flat_map(|line| line.pieces.iter().flatten());
    points().next()?;
    let x = Axis::logarithmic("ms", points().map(|(x, _)| *x));
    let y = Axis::from_zero("% of requests", points().map(|(_, y)| *y));
    Some(Chart { title: "Latency distribution, % of requests", x, y, lines, dividers: Vec::new() })
}

/// How long all but the slowest took, the slowest ever more finely told.
fn percentiles(shown: &[Shown<'_>]) -> Option<Chart> {
    const TEXTS: [&str; 8] = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999"];
    let line = |shown: &Shown<'_>| {
        let buckets = merged(shown.row);
        let all: u64 = buckets.values().map(|bucket| bucket.requests).sum();
        let mut below = 0;
        let point = |bucket: &Bucket| {
            below += bucket.requests;
            // The last bucket ends at all of them, which lies nowhere: it stands for the slowest one.
            let left = (all - below).max(1) as f64 / all as f64;
            (-left.log10(), bucket.up_to_ms)
        };
        let points: Vec<(f64, f64)> = buckets.values().map(point).collect();
        let pieces = if points.is_empty() { Vec::new() } else { vec![points] };
        Line { label: shown.label.to_owned(), colour: shown.colour, is_filled: false, pieces }
    };
    let lines: Vec<Line> = shown.iter().map(line).filter(|line| !line.pieces.is_empty()).collect();
    let points = || lines.iter().flat_map(|line| line.pieces.iter().flatten());
    points().next()?;
    let end = points().map(|(x, _)| *x).fold(1.0, f64::max);
    let half = -(0.5f64.log10());
    let ticks = TEXTS.iter().enumerate().map(|(nines, text)| (nines as f64, (*text).to_owned()));
    let ticks = ticks.chain([(half, "50".to_owned())]).filter(|(at, _)| *at <= end).collect();
    let x = Axis { label: "percentile", scale: Scale::Linear, range: (0.0, end), ticks };
    let y = Axis::logarithmic("ms", points().map(|(_, y)| *y));
    Some(Chart { title: "Latency by percentile, ms", x, y, lines, dividers: Vec::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(requests: &[u64], elapsed_s: f64) -> Round {
        let seconds = requests.iter().map(|&requests| Second { requests, max_ms: 3.0 }).collect();
        let latencies = vec![Bucket { up_to_ms: 1.0, requests: 99 }, Bucket { up_to_ms: 8.0, requests: 1 }];
        Round { elapsed_s, seconds, latencies, ..Round::default() }
    }

    fn report(rounds: Vec<Round>) -> Report {
        Report { rows: vec![Row { name: "write@64".into(), rounds, ..Row::default() }], ..Report::default() }
    }

    #[test]
    fn a_second_that_is_not_whole_has_its_pace_or_no_point() {
        assert_eq!(throughput(&round(&[100, 100, 50], 2.5)), [(0.5, 100.0), (1.5, 100.0), (2.25, 100.0)]);
        assert_eq!(throughput(&round(&[100, 100, 1], 2.01)).len(), 2);
        assert_eq!(throughput(&round(&[100, 0, 100], 3.0))[1], (1.5, 0.0), "a second without an answer is shown");
    }

    #[test]
    fn rounds_lie_behind_each_other() {
        let reports = [report(vec![round(&[1; 3], 3.0), round(&[1; 3], 3.0)]), report(vec![round(&[1; 5], 5.0)])];
        let charts = drawn(&View::new(&reports), "write@64");
        let throughput = charts.iter().find(|chart| chart.title.starts_with("Throughput")).unwrap();
        assert_eq!((throughput.lines.len(), throughput.dividers.as_slice()), (2, &[5.0][..]));
        assert_eq!(throughput.lines[0].pieces[1][0].0, 5.5);
        for point in charts.iter().flat_map(|chart| &chart.lines).filter(|line| line.pieces.len() == 2) {
            assert!(point.pieces[0].iter().all(|(x, _)| *x <= 5.0), "a round stays within its time: {point:?}");
        }
    }

    #[test]
    fn the_ceilings_maxima_stand_beside() {
        let mut with = round(&[1; 3], 3.0);
        with.fsync_seconds = with.seconds.clone();
        let reports = [report(vec![with])];
        let charts = drawn(&View::new(&reports), "write@64");
        let slowest = charts.iter().find(|chart| chart.title.starts_with("Slowest")).unwrap();
        assert_eq!(
            slowest.lines.iter().map(|line| line.label.as_str()).collect::<Vec<_>>(),
            ["unknown", "unknown: fsync"]
        );
        assert_ne!(slowest.lines[0].colour, slowest.lines[1].colour);
    }

    #[test]
    fn what_took_minutes_has_small_pictures_that_need_nothing_else() {
        let seconds: Vec<u64> = vec![1; 600];
        let mut long = round(&seconds, 600.0);
        long.fsync_seconds = long.seconds.clone();
        long.resident_mib = vec![71.25; 600];
        let reports = [report(vec![long]), report(vec![round(&[1; 3], 3.0)])];
        let pictures = pictures(&reports);
        let names: Vec<&str> = pictures.iter().map(|picture| picture.file.as_str()).collect();
        assert_eq!(names, ["write-slowest-unknown.svg", "write-memory-unknown.svg"]);
        for Picture { svg, .. } in &pictures {
            assert!(svg.starts_with("<svg xmlns=") && svg.contains("<style>") && !svg.contains("href"), "{svg}");
            assert!(svg.len() < 60 * 1024, "{}", svg.len());
        }
        assert!(pictures[0].svg.contains("unknown: fsync"));
    }

    #[test]
    fn percentiles_reach_the_slowest() {
        let reports = [report(vec![round(&[1; 3], 3.0), round(&[1; 3], 3.0)])];
        let charts = drawn(&View::new(&reports), "write@64");
        let chart = charts.iter().find(|chart| chart.title.contains("percentile")).unwrap();
        let points = &chart.lines[0].pieces[0];
        assert_eq!(points.len(), 2);
        assert!((points[0].0 - 2.0).abs() < 1e-9, "99 of 100 are below: {points:?}");
        assert!((points[1].0 - 200f64.log10()).abs() < 1e-9, "1 of 200 is the slowest: {points:?}");
    }
}
