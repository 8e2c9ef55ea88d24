//! Values that people type: of flags, variables and files of settings. What is wrong is refused with what was expected and an
//! example, never in the words of the library that parsed it.

use std::fmt::Display;
use std::ops::{Bound, RangeBounds};
use std::str::FromStr;

/// An integer that may be typed.
pub trait Whole: FromStr + PartialOrd + Display + Copy + Send + Sync + 'static {
    /// The least and the greatest one.
    const ALL: (Self, Self);
}

macro_rules! whole {
    ($($integer:ty)*) => {
        $(impl Whole for $integer {
            const ALL: (Self, Self) = (Self::MIN, Self::MAX);
        })*
    };
}

whole! { u8 u16 u32 u64 usize i64 }

/// Reads a whole number within a range, whose bounds belong to it. `such_as` is an example. The error says what was expected.
pub fn whole<T: Whole>(
    range: impl RangeBounds<T> + Clone + Send + Sync + 'static,
    such_as: T,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("expected {}, such as {such_as}", bounded(&range, text)))
    }
}

/// What a whole number must be. Bounds that no range names are told only if `text` is a number beyond them.
fn bounded<T: Whole>(range: &impl RangeBounds<T>, text: &str) -> String {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_beyond = is_number && text.parse::<T>().is_err();
    let least = match range.start_bound() {
        Bound::Included(least) | Bound::Excluded(least) => Some(*least),
        Bound::Unbounded => is_beyond.then_some(T::ALL.0),
    };
    let most = match range.end_bound() {
        Bound::Included(most) | Bound::Excluded(most) => Some(*most),
        Bound::Unbounded => (is_beyond && !text.starts_with('-')).then_some(T::ALL.1),
    };
    match (least, most) {
        (Some(least), Some(most)) => format!("a whole number from {least} to {most}"),
        (Some(least), None) => format!("a whole number from {least} on"),
        (None, Some(most)) => format!("a whole number up to {most}"),
        (None, None) => "a whole number".to_owned(),
    }
}

/// Reads a UUID.
///
/// # Errors
/// What was expected.
pub fn id(text: &str) -> Result<uuid::Uuid, String> {
    text.parse().map_err(|_| "expected a UUID, such as 6fa459ea-ee8a-4ca4-894e-db77e160355e".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_is_refused_with_what_was_expected() {
        let port = whole::<u16>(0..=65_535, 8_080);
        assert_eq!(port("8080"), Ok(8_080));
        for text in ["", "http", "65536", "-1", "1.5", "0x10", "99999999999999999999999"] {
            assert_eq!(port(text), Err("expected a whole number from 0 to 65535, such as 8080".to_owned()), "{text}");
        }
        let count = whole::<u64>(1.., 100);
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("0"), Err("expected a whole number from 1 on, such as 100".to_owned()));
        let told = "expected a whole number from 1 to 18446744073709551615, such as 100";
        assert_eq!(count("18446744073709551616"), Err(told.to_owned()));
        assert_eq!(count("many"), Err("expected a whole number from 1 on, such as 100".to_owned()));
        let position = whole::<i64>(.., 1_000);
        assert_eq!(position("-3"), Ok(-3));
        assert_eq!(position("last"), Err("expected a whole number, such as 1000".to_owned()));
    }

    #[test]
    fn a_wrong_id_is_refused_with_an_example() {
        assert!(id("1").expect_err("it is none").contains("such as 6fa459ea"));
        id("6fa459ea-ee8a-4ca4-894e-db77e160355e").expect("it is one");
    }
}
