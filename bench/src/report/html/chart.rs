//! One chart with lines, as SVG.

use std::fmt::Write as _;

use super::escape;
use crate::report::number::short;

/// Colours that the style sheet has.
pub(super) const COLOURS: usize = 6;

/// Points of a line up to which each tells its figures when it is pointed at.
const POINTED: usize = 200;

/// The drawing's size and its margins: left, right, top, bottom.
const SIZE: (f64, f64) = (560.0, 230.0);
const MARGINS: (f64, f64, f64, f64) = (46.0, 14.0, 10.0, 36.0);
/// The height of the title above the drawing, in a file of its own.
const HEADING: f64 = 28.0;
/// How a drawing looks, in a page or alone.
pub(super) const STYLE: &str = include_str!("chart.css");

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

/// An axis.
#[derive(Debug)]
pub(super) struct Axis {
    /// What it counts.
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
    /// Below [`COLOURS`].
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
    /// The chart with its title and the names of its lines.
    pub(super) fn svg(&self) -> String {
        let mut text = format!("<figure>\n<figcaption><b>{}</b>", escape(self.title));
        if self.lines.len() > 1 {
            for line in &self.lines {
                let (colour, label) = (line.colour, escape(&line.label));
                let _ = write!(text, "<span><i class=\"key c{colour}\"></i>{label}</span>");
            }
        }
        let (width, height) = SIZE;
        let _ = write!(
            text,
            "</figcaption>\n<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n",
            escape(self.title)
        );
        self.draw(&mut text);
        for line in self.lines.iter().filter(|line| line.pieces.iter().map(Vec::len).sum::<usize>() <= POINTED) {
            self.draw_points(&mut text, line);
        }
        text.push_str("</svg>\n</figure>\n");
        text
    }

    /// The chart as a file of its own, under a title that says of what it is.
    pub(super) fn picture(&self, of: &str) -> String {
        let ((width, height), title) = (SIZE, format!("{}: {}", escape(of), escape(self.title)));
        let (top, middle) = (-HEADING, -HEADING / 2.0 + 6.0);
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 {top} {width} {}\" role=\"img\" \
             aria-label=\"{title}\">\n<style>\n{STYLE}</style>\n\
             <rect class=\"card\" y=\"{top}\" width=\"{width}\" height=\"{}\"/>\n\
             <text x=\"{}\" y=\"{middle}\">{title}</text>\n",
            height + HEADING,
            height + HEADING,
            MARGINS.0,
        );
        // The names of the lines, from the right; a letter is about so wide.
        const LETTER: f64 = 6.0;
        let mut right = width - MARGINS.1;
        for line in self.lines.iter().rev().filter(|_| self.lines.len() > 1) {
            let at = right - line.label.chars().count() as f64 * LETTER;
            let (colour, label) = (line.colour, escape(&line.label));
            let _ = writeln!(text, "<path class=\"line c{colour}\" d=\"M{:.1} {:.1}h10\"/>", at - 14.0, middle - 4.0);
            let _ = writeln!(text, "<text x=\"{at:.1}\" y=\"{middle}\">{label}</text>");
            right = at - 28.0;
        }
        self.draw(&mut text);
        text.push_str("</svg>\n");
        text
    }

    fn draw(&self, text: &mut String) {
        self.draw_axes(text);
        for line in &self.lines {
            self.draw_line(text, line);
        }
    }

    fn draw_axes(&self, text: &mut String) {
        let (left, right, top, bottom) = (MARGINS.0, SIZE.0 - MARGINS.1, MARGINS.2, SIZE.1 - MARGINS.3);
        for (value, label) in self.y.marks() {
            let y = self.at_y(value);
            let _ = writeln!(text, "<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>");
            let _ = writeln!(
                text,
                "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                left - 6.0,
                y + 4.0,
                escape(&label)
            );
        }
        for (value, label) in self.x.marks() {
            let x = self.at_x(value);
            let _ = writeln!(text, "<path class=\"tick\" d=\"M{x:.1} {bottom}v4\"/>");
            let _ =
                writeln!(text, "<text class=\"x\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>", bottom + 16.0, escape(&label));
        }
        for divider in &self.dividers {
            let _ = writeln!(text, "<path class=\"divider\" d=\"M{:.1} {top}V{bottom}\"/>", self.at_x(*divider));
        }
        let _ = writeln!(text, "<path class=\"axis\" d=\"M{left} {bottom}H{right}\"/>");
        let middle = (left + right) / 2.0;
        let _ =
            writeln!(text, "<text class=\"x\" x=\"{middle}\" y=\"{}\">{}</text>", SIZE.1 - 5.0, escape(self.x.label));
    }

    fn draw_line(&self, text: &mut String, line: &Line) {
        let bottom = SIZE.1 - MARGINS.3;
        for piece in line.pieces.iter().filter(|piece| !piece.is_empty()) {
            let mut path = String::new();
            for (n, &(x, y)) in piece.iter().enumerate() {
                let _ = write!(path, "{}{:.1} {:.1}", if n == 0 { "M" } else { "L" }, self.at_x(x), self.at_y(y));
            }
            let colour = line.colour;
            if line.is_filled {
                let (first, last) = (self.at_x(piece[0].0), self.at_x(piece[piece.len() - 1].0));
                let _ = writeln!(
                    text,
                    "<path class=\"area c{colour}\" d=\"{path}L{last:.1} {bottom}L{first:.1} {bottom}Z\"/>"
                );
            }
            // A line of one point would not be seen.
            let (class, end) = if piece.len() == 1 { ("dot", "h0") } else { ("line", "") };
            let _ = writeln!(text, "<path class=\"{class} c{colour}\" d=\"{path}{end}\"/>");
        }
    }

    /// Circles that nobody sees and that tell their figures when they are pointed at.
    fn draw_points(&self, text: &mut String, line: &Line) {
        for &(x, y) in line.pieces.iter().flatten() {
            let (at_x, at_y) = (self.at_x(x), self.at_y(y));
            let _ = writeln!(
                text,
                "<circle class=\"point c{}\" cx=\"{at_x:.1}\" cy=\"{at_y:.1}\" r=\"5\"><title>{}: {} {} at {} {}</title></circle>",
                line.colour,
                escape(&line.label),
                figure(y),
                escape(self.y.label),
                self.x_text(x),
                escape(self.x.label)
            );
        }
    }

    /// A value of the horizontal axis as its marks write it.
    fn x_text(&self, x: f64) -> String {
        let named = self.x.ticks.iter().find(|(value, _)| (value - x).abs() < 1e-9);
        named.map_or_else(|| figure(x), |(_, text)| escape(text))
    }

    fn at_x(&self, value: f64) -> f64 {
        MARGINS.0 + self.x.share(value) * (SIZE.0 - MARGINS.0 - MARGINS.1)
    }

    fn at_y(&self, value: f64) -> f64 {
        SIZE.1 - MARGINS.3 - self.y.share(value) * (SIZE.1 - MARGINS.2 - MARGINS.3)
    }
}

/// Three digits that mean something.
fn figure(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => crate::report::number::count(value),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let svg = Chart { title: "over time", x, y, lines: vec![line], dividers: vec![1.5] }.svg();
        assert_eq!(svg.matches("class=\"line c0\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"dot c0\"").count(), 1, "{svg}");
        assert_eq!(svg.matches("class=\"divider\"").count(), 1, "{svg}");
    }
}
