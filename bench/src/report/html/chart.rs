//! One chart with lines, and where its parts lie in a drawing.

use minijinja::{Value, context};

use crate::report::number::{count, short};

/// Points of a line up to which each tells its figures when it is pointed at.
const POINTED: usize = 200;

/// The drawing's size and its margins: left, right, top, bottom.
const SIZE: (f64, f64) = (560.0, 230.0);
const MARGINS: (f64, f64, f64, f64) = (46.0, 14.0, 10.0, 36.0);

/// A chart: lines over a common pair of axes.
#[derive(Debug)]
pub(super) struct Chart {
    pub(super) title: &'static str,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    /// Where something ends and something else begins.
    pub(super) dividers: Vec<f64>,
}

/// An axis of a chart.
#[derive(Debug)]
pub(super) struct Axis {
    /// Its unit.
    pub(super) label: &'static str,
    pub(super) scale: Scale,
    /// The lowest and the highest value.
    pub(super) range: (f64, f64),
    /// Marks with texts of their own, in place of round numbers.
    pub(super) ticks: Vec<(f64, String)>,
}

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    Linear,
    /// Ten times as much is as far everywhere.
    Logarithmic,
}

/// A line, which may have gaps.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) label: String,
    /// The number of a colour of the style sheet.
    pub(super) colour: usize,
    /// Whether the area below it is tinted.
    pub(super) is_filled: bool,
    pub(super) pieces: Vec<Vec<(f64, f64)>>,
}

impl Axis {
    /// From nothing to a little above the highest of `values`.
    pub(super) fn from_zero(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let highest = values.fold(0.0, f64::max);
        let range = (0.0, if highest > 0.0 { highest * 1.08 } else { 1.0 });
        Self { label, scale: Scale::Linear, range, ticks: Vec::new() }
    }

    /// From the lowest of `values` to the highest, none of which may be 0.
    pub(super) fn logarithmic(label: &'static str, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        let range = if low < high { (low, high) } else { (low / 2.0, low * 2.0) };
        Self { label, scale: Scale::Logarithmic, range, ticks: Vec::new() }
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let place = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Logarithmic => value.log10(),
        };
        let (low, high) = (place(self.range.0), place(self.range.1));
        ((place(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    fn marks(&self) -> Vec<(f64, String)> {
        if !self.ticks.is_empty() {
            return self.ticks.clone();
        }
        let values = match self.scale {
            Scale::Linear => round_values(self.range),
            Scale::Logarithmic => decades(self.range),
        };
        values.into_iter().map(|value| (value, short(value))).collect()
    }
}

/// About five round numbers within a range.
fn round_values((low, high): (f64, f64)) -> Vec<f64> {
    let rough = (high - low) / 5.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let first = (low / step).ceil() as i64;
    (first..).map(|n| n as f64 * step).take_while(|value| *value <= high).collect()
}

/// Powers of ten within a range, and 2 and 5 times them where there are few.
fn decades((low, high): (f64, f64)) -> Vec<f64> {
    let factors: &[f64] = if (high / low).log10() > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
    let values = powers.flat_map(|power| factors.iter().map(move |factor| factor * 10f64.powi(power)));
    values.filter(|value| (low..=high).contains(value)).collect()
}

impl Chart {
    /// The chart as its templates draw it.
    pub(super) fn drawing(&self) -> Value {
        let (left, right) = (MARGINS.0, SIZE.0 - MARGINS.1);
        let mark = |at: f64, text: String| context! { at => tenths(at), text };
        let x_marks: Vec<_> = self.x.marks().into_iter().map(|(x, text)| mark(self.at_x(x), text)).collect();
        let y_marks: Vec<_> = self.y.marks().into_iter().map(|(y, text)| mark(self.at_y(y), text)).collect();
        // The labels stand from the right; a letter is about this wide.
        const LETTER: f64 = 6.0;
        let mut end = right;
        let mut lines: Vec<_> = Vec::new();
        for line in self.lines.iter().rev() {
            let at = end - line.label.chars().count() as f64 * LETTER;
            end = at - 28.0;
            lines.push(self.line(line, at));
        }
        lines.reverse();
        let points: Vec<_> = self.lines.iter().flat_map(|line| self.points(line)).collect();
        context! {
            title => self.title, x_label => self.x.label, width => SIZE.0, height => SIZE.1,
            left, right, top => MARGINS.2, bottom => SIZE.1 - MARGINS.3,
            dividers => self.dividers.iter().map(|&at| tenths(self.at_x(at))).collect::<Vec<_>>(),
            x_marks, y_marks, lines, points,
        }
    }

    fn line(&self, line: &Line, label_at: f64) -> Value {
        let piece = |piece: &Vec<(f64, f64)>| {
            let at = |(x, y): &(f64, f64)| format!("{:.1} {:.1}", self.at_x(*x), self.at_y(*y));
            let path = format!("M{}", piece.iter().map(at).collect::<Vec<_>>().join("L"));
            let (first, last) = (tenths(self.at_x(piece[0].0)), tenths(self.at_x(piece[piece.len() - 1].0)));
            context! { path, first, last, is_dot => piece.len() == 1 }
        };
        let pieces: Vec<_> = line.pieces.iter().filter(|piece| !piece.is_empty()).map(piece).collect();
        context! { label => line.label.as_str(), colour => line.colour, is_filled => line.is_filled, label_at, pieces }
    }

    /// Points that are not seen, and tell their figures when they are pointed at. A line with very many has none.
    fn points(&self, line: &Line) -> Vec<Value> {
        if line.pieces.iter().map(Vec::len).sum::<usize>() > POINTED {
            return Vec::new();
        }
        let point = |&(x, y): &(f64, f64)| {
            let named = self.x.ticks.iter().find(|(value, _)| (value - x).abs() < 1e-9);
            let at = named.map_or_else(|| figure(x), |(_, text)| text.clone());
            let text = format!("{}: {} {} at {at} {}", line.label, figure(y), self.y.label, self.x.label);
            context! { x => tenths(self.at_x(x)), y => tenths(self.at_y(y)), colour => line.colour, text }
        };
        line.pieces.iter().flatten().map(point).collect()
    }

    fn at_x(&self, value: f64) -> f64 {
        MARGINS.0 + self.x.share(value) * (SIZE.0 - MARGINS.0 - MARGINS.1)
    }

    fn at_y(&self, value: f64) -> f64 {
        SIZE.1 - MARGINS.3 - self.y.share(value) * (SIZE.1 - MARGINS.2 - MARGINS.3)
    }
}

/// A length in a drawing: more digits would only make files longer.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => count(value),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::view::render;

    #[test]
    fn marks_are_round_numbers() {
        assert_eq!(round_values((0.0, 10.8)), [0.0, 5.0, 10.0]);
        assert_eq!(round_values((0.0, 43_000.0)), [0.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0]);
        assert_eq!(decades((0.03, 40.0)), [0.1, 1.0, 10.0]);
        assert_eq!(decades((0.9, 11.0)), [1.0, 2.0, 5.0, 10.0]);
    }

    #[test]
    fn a_value_lies_where_its_scale_says() {
        let axis = Axis::logarithmic("ms", [1.0, 100.0].into_iter());
        assert!((axis.share(10.0) - 0.5).abs() < 1e-9);
        let axis = Axis { range: (0.0, 20.0), ..Axis::from_zero("s", std::iter::empty()) };
        assert!((axis.share(10.0) - 0.5).abs() < 1e-9);
        assert!((axis.share(30.0) - 1.0).abs() < 1e-9, "what is beyond lies at the edge");
    }

    #[test]
    fn a_gap_in_a_line_is_a_gap() {
        let pieces = vec![vec![(0.0, 1.0), (1.0, 2.0)], vec![(2.0, 1.0)]];
        let line = Line { label: "sqlite".into(), colour: 0, is_filled: false, pieces };
        let x = Axis { range: (0.0, 3.0), ..Axis::from_zero("s", std::iter::empty()) };
        let y = Axis::from_zero("ops/s", [1.0, 2.0].into_iter());
        let chart = Chart { title: "over time", x, y, lines: vec![line], dividers: vec![1.5] };
        let svg = render("drawing.svg", context! { chart => chart.drawing() }, |text| text);
        assert_eq!(svg.matches("class=\"line c0\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"dot c0\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"divider\"").count(), 1, "{svg}");
    }
}
