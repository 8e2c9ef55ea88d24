//! Figures as text, with the digits that mean something.

use indicatif::HumanCount;

/// A rate or a count, its thousands apart: `31,193`.
pub(super) fn count(value: f64) -> String {
    let sign = if value <= -0.5 { "-" } else { "" };
    format!("{sign}{}", HumanCount(value.abs().round_ties_even() as u64))
}

/// A rate: whole, but for small ones.
pub(super) fn rate(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { count(value) }
}

/// A figure at an axis: `0.5`, `20`, `1.5k`, `4M`.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, "M"),
        size if size >= 1e3 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    // Rounding removes the digits that binary fractions add.
    let digits = format!("{scaled:.4}");
    format!("{}{unit}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Any figure: whole where it is, else with three digits that mean something.
pub(super) fn plain(value: f64) -> String {
    if value.fract() == 0.0 { count(value) } else { ms(value) }
}

/// Milliseconds, with three digits that mean something: `0.065`, `4.15`, `82.8`, `1,204`.
pub(super) fn ms(value: f64) -> String {
    match value {
        _ if value < 1.0 => format!("{value:.3}"),
        _ if value < 10.0 => format!("{value:.2}"),
        _ if value < 100.0 => format!("{value:.1}"),
        _ => count(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (value, text) in [
            (0.0, "0"),
            (7.4, "7"),
            (999.0, "999"),
            (1_000.0, "1,000"),
            (3_993_395.0, "3,993,395"),
            (-1_234.0, "-1,234"),
        ] {
            assert_eq!(count(value), text);
        }
    }

    #[test]
    fn digits_are_those_that_mean_something() {
        for (value, text) in [(0.0654, "0.065"), (4.145, "4.14"), (82.77, "82.8"), (1_204.4, "1,204")] {
            assert_eq!(ms(value), text);
        }
        for (value, text) in
            [(0.0, "0"), (0.05, "0.05"), (20.0, "20"), (1_500.0, "1.5k"), (4e6, "4M"), (0.30000000000000004, "0.3")]
        {
            assert_eq!(short(value), text);
        }
        assert_eq!((rate(0.1234), rate(31_193.4)), ("0.12".to_owned(), "31,193".to_owned()));
    }
}
