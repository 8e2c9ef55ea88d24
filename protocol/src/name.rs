//! Names of streams, categories, types and namespaces.

use crate::{Error, Limits};

/// The category of a stream: the part before the first `-`, or the whole name if there is none.
///
/// Source: Message DB's `category` function.
pub fn category(stream: &str) -> &str {
    stream.split_once('-').map_or(stream, |(category, _)| category)
}

/// The id of a stream: the part after the first `-`, or `None` if there is none.
pub fn id(stream: &str) -> Option<&str> {
    stream.split_once('-').map(|(_, id)| id)
}

/// The cardinal id of a stream: its id up to the first `+`. `None` if the stream has no id.
///
/// Source: Message DB's `cardinal_id` function.
pub fn cardinal_id(stream: &str) -> Option<&str> {
    id(stream).map(|id| id.split_once('+').map_or(id, |(cardinal, _)| cardinal))
}

/// Whether `name` can be a category of a stream. A name that contains `-` cannot, and matches nothing.
pub fn is_category(name: &str) -> bool {
    !name.contains('-')
}

/// Checks the name of a stream, a type or a namespace. The error calls it `field`.
///
/// # Errors
/// `INVALID_REQUEST` if the name is empty, longer than the limit, or has a control character.
pub fn check(field: &str, name: &str, limits: &Limits) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid(format!("{field} must be a non-empty string")));
    }
    if name.len() > limits.name_bytes {
        return Err(Error::invalid(format!(
            "{field} must be at most {} bytes of UTF-8, got {}",
            limits.name_bytes,
            name.len()
        )));
    }
    if let Some(control) = name.chars().find(|c| c.is_control()) {
        return Err(Error::invalid(format!(
            "{field} must not contain control characters, found U+{:04X}",
            u32::from(control)
        )));
    }
    Ok(())
}

/// Checks a name, or the beginning of a name, in a read. `""` is accepted.
///
/// # Errors
/// As [`check`], because no write would have accepted such a name.
pub fn check_asked(field: &str, name: &str, limits: &Limits) -> Result<(), Error> {
    if name.is_empty() { Ok(()) } else { check(field, name, limits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_at_the_first_dash_and_plus() {
        for (stream, expected_category, expected_cardinal) in [
            ("account-123", "account", Some("123")),
            ("account-123+retry", "account", Some("123")),
            ("account-a-b+c+d", "account", Some("a-b")),
            ("account", "account", None),
            ("account-", "account", Some("")),
            ("account-+x", "account", Some("")),
            ("-x", "", Some("x")),
            ("a+b-c", "a+b", Some("c")),
        ] {
            assert_eq!(category(stream), expected_category, "{stream}");
            assert_eq!(cardinal_id(stream), expected_cardinal, "{stream}");
        }
    }

    #[test]
    fn refuses_bad_names() {
        let limits = Limits::default();
        for bad in ["", "a\0b", "tab\t", "\u{7f}", "\u{85}", &"x".repeat(256)] {
            assert!(check("stream", bad, &limits).is_err(), "{bad:?}");
        }
        for good in ["a", "zählung-6", "🎉-1", &"x".repeat(255), " "] {
            assert!(check("stream", good, &limits).is_ok(), "{good:?}");
        }
    }
}
