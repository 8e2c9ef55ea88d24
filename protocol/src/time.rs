//! Points in time as the protocol writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
///
/// It is written as RFC 3339 in UTC with a `Z` and six fraction digits. Finer fractions are cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The current time by this machine's clock.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_microsecond())
    }

    /// From microseconds since the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Its `from_microsecond` does not take the last second that it has.
        match jiff::Timestamp::new(self.0 / 1_000_000, (self.0 % 1_000_000) as i32 * 1000) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => Err(fmt::Error),
        }
    }
}

/// Why a text is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTimeError {
    /// It is not an RFC 3339 time with an offset and at most nine fraction digits.
    #[error("expected an RFC 3339 time such as 2024-01-31T12:00:00Z")]
    Form,
    /// It is such a time, and later than the last one: a day and two hours before the year 10000, so that it has a date of
    /// four digits at every offset.
    #[error("a time is at most 9999-12-30T22:00:00.999999Z")]
    TooLate,
}

impl FromStr for Timestamp {
    type Err = ParseTimeError;

    /// Reads RFC 3339 with 0 to 9 fraction digits. Fractions finer than a microsecond are cut.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
        let shaped = bytes.len() >= 20
            && separators.iter().all(|&(at, byte)| bytes[at] == byte)
            && matches!(bytes[10], b'T' | b't')
            && (bytes[19] != b'.' || bytes.get(20).is_some_and(u8::is_ascii_digit));
        if !shaped {
            return Err(ParseTimeError::Form);
        }
        let time: jiff::Timestamp = text.parse().map_err(|_| why_refused(text))?;
        Ok(Self(time.as_nanosecond().div_euclid(1000) as i64))
    }
}

/// Why a text is refused that has the shape of a time. It is too late if the same time of the year before is one. Both
/// years have the same days.
fn why_refused(text: &str) -> ParseTimeError {
    let year_before = text.strip_prefix("9999").map(|rest| format!("9998{rest}"));
    match year_before.map(|text| text.parse::<jiff::Timestamp>()) {
        Some(Ok(_)) => ParseTimeError::TooLate,
        _ => ParseTimeError::Form,
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_six_digits_and_cuts_the_rest() {
        for (text, written) in [
            ("2026-11-21T02:56:06Z", "2026-11-21T02:56:06.000000Z"),
            ("2026-11-21T02:56:06.123456789Z", "2026-11-21T02:56:06.123456Z"),
            ("2026-11-21T03:56:06.9+01:00", "2026-11-21T02:56:06.900000Z"),
            ("1969-12-31T23:59:59.9999999Z", "1969-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(text.parse::<Timestamp>().map(|t| t.to_string()).as_deref(), Ok(written));
        }
    }

    #[test]
    fn tells_of_the_last_time() {
        let parse = |text: &str| text.parse::<Timestamp>();
        for last in ["9999-12-30T22:00:00.999999999Z", "9999-12-31T21:00:00.999999+23:00"] {
            assert_eq!(
                parse(last).map(|time| time.to_string()).as_deref(),
                Ok("9999-12-30T22:00:00.999999Z"),
                "{last}"
            );
        }
        for late in
            ["9999-12-30T22:00:01Z", "9999-12-31T23:59:59Z", "9999-12-30T22:00:00-01:00", "9999-12-31t00:00:00.5z"]
        {
            let told = parse(late).expect_err("it is too late").to_string();
            assert_eq!(told, "a time is at most 9999-12-30T22:00:00.999999Z", "{late}");
        }
        for bad in ["9999-13-01T00:00:00Z", "9999-02-29T00:00:00Z", "9999-12-31T25:00:00Z", "9999-12-31T23:59:59"] {
            assert!(parse(bad).is_err_and(|error| error.to_string().starts_with("expected")), "{bad}");
        }
    }

    #[test]
    fn refuses_what_is_no_rfc_3339_time() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T02:56:06",
            "20261121T025606Z",
            "2026-13-01T00:00:00Z",
            "2026-11-21T02:56:06.Z",
            "2026-11-21T02:56:06.",
            "2026-11-21T02:56:06.1234567890Z",
            "yesterday",
            "2026-11-21 02:56:06Z",
        ] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
