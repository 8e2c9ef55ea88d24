//! Times on the command line.

use eventodb_client::Timestamp;
use eventodb_protocol::time::ParseTimeError;

/// Reads RFC 3339, or a day in UTC, which stands for its beginning.
///
/// # Errors
/// What was expected.
pub(super) fn parse(text: &str) -> Result<Timestamp, String> {
    let date = text.len() == "2024-01-31".len();
    let full = if date { format!("{text}T00:00:00Z") } else { text.to_owned() };
    full.parse().map_err(|error| match error {
        ParseTimeError::Form => "expected a time such as 2024-01-31T12:00:00Z, or a day such as 2024-01-31".to_owned(),
        ParseTimeError::TooLate => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_its_beginning() {
        assert_eq!(parse("2024-01-31"), parse("2024-01-31T00:00:00Z"));
        assert!(parse("2024-13-01").is_err() && parse("yesterday").is_err());
        assert_eq!(parse("9999-12-31"), Err("a time is at most 9999-12-30T22:00:00.999999Z".to_owned()));
    }
}
