//! The checks of `streams.append`: expectations about streams that are not written, and conditions on messages that were
//! not read by the names of their streams.

use std::sync::Arc;

use super::Options;
use super::write::{array, expected, stream_name, unique, within};
use crate::condition::{Condition, Matching};
use crate::limits::{APPEND_STREAMS, FILTER_NAMES};
use crate::message::Expected;
use crate::{Error, Limits, name};

const MEMBERS: &[&str] = &["stream", "expectedVersion", "match", "after", "absent"];
/// What a check is about; it has one of them.
const KINDS: [&str; 3] = ["stream", "match", "absent"];
const MATCHING_MEMBERS: &[&str] = &["categories", "types"];

/// Something that must hold, or nothing is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A stream that is not written has this version.
    Version {
        /// The stream.
        stream: Arc<str>,
        /// Its expected version.
        expected: Expected,
    },
    /// No message matches.
    Condition(Condition),
}

/// The checks of an array.
///
/// # Errors
/// `INVALID_REQUEST` naming the check.
pub(super) fn checks(text: &str, limits: &Limits) -> Result<Vec<Check>, Error> {
    let elements = array("checks", text)?;
    within("checks", "checks", elements.clone().count(), APPEND_STREAMS)?;
    let checks = elements.enumerate().map(|(at, element)| check(&format!("checks[{at}]"), element, limits));
    let checks: Vec<Check> = checks.collect::<Result<_, _>>()?;
    let streams = checks.iter().filter_map(|check| match check {
        Check::Version { stream, .. } => Some(&**stream),
        Check::Condition(_) => None,
    });
    unique("checks", streams)?;
    let names = checks.iter().map(|check| match check {
        Check::Version { .. } => 0,
        Check::Condition(condition) => condition.matching.len(),
    });
    within("checks", "names of categories and types in all", names.sum(), FILTER_NAMES)?;
    Ok(checks)
}

fn check(field: &str, text: &str, limits: &Limits) -> Result<Check, Error> {
    let prefix = format!("{field}.");
    let options = Options::parse(field, &prefix, text, MEMBERS)?;
    let given: Vec<&str> = KINDS.into_iter().filter(|kind| options.raw(kind).is_some()).collect();
    match given[..] {
        ["stream"] => {
            absent(field, &options, "after")?;
            let stream = options.string("stream")?.unwrap_or_default();
            let stream = stream_name(&format!("{field}.stream"), &stream, limits)?;
            required(field, &options, "expectedVersion")?;
            Ok(Check::Version { stream, expected: expected(&format!("{field}.expectedVersion"), &options)? })
        }
        ["match"] => {
            absent(field, &options, "expectedVersion")?;
            required(field, &options, "after")?;
            let after = options.integer("after")?.filter(|after| *after >= 0);
            let after = after.ok_or_else(|| Error::invalid(format!("{field}.after must be 0 or more")))?;
            let matching = matching(&format!("{field}.match"), options.object("match")?, limits)?;
            Ok(Check::Condition(Condition { matching, after: Some(after) }))
        }
        ["absent"] => {
            absent(field, &options, "expectedVersion")?;
            absent(field, &options, "after")?;
            let matching = matching(&format!("{field}.absent"), options.object("absent")?, limits)?;
            Ok(Check::Condition(Condition { matching, after: None }))
        }
        [] => Err(Error::invalid(format!("{field}.stream is required, or match, or absent"))),
        _ => Err(Error::invalid(format!("{field} must have only one of stream, match and absent"))),
    }
}

fn required(field: &str, options: &Options<'_>, name: &str) -> Result<(), Error> {
    options.raw(name).map(drop).ok_or_else(|| Error::invalid(format!("{field}.{name} is required")))
}

/// `after` is for `match` only, and `expectedVersion` for `stream`.
fn absent(field: &str, options: &Options<'_>, name: &str) -> Result<(), Error> {
    match options.raw(name) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!("{field}.{name} must not be given in this kind of check"))),
    }
}

/// The categories and types of a condition. One of the lists may be left out. An empty one is refused, because a program
/// with an empty list means nothing, and not everything.
fn matching(field: &str, text: Option<&str>, limits: &Limits) -> Result<Matching, Error> {
    let prefix = format!("{field}.");
    let options = Options::parse(field, &prefix, text.unwrap_or("{}"), MATCHING_MEMBERS)?;
    let names = |name: &str| -> Result<Vec<String>, Error> {
        let Some(names) = options.strings(name, FILTER_NAMES)? else { return Ok(Vec::new()) };
        if names.is_empty() {
            return Err(Error::invalid(format!(
                "{field}.{name} must have at least one name; leave it out to match all"
            )));
        }
        let each = names.into_iter().enumerate().map(|(at, text)| {
            name::check_asked(&format!("{field}.{name}[{at}]"), &text, limits)?;
            Ok(text.into_owned())
        });
        each.collect()
    };
    let matching = Matching { categories: names("categories")?, types: names("types")? };
    if matching.is_empty() {
        return Err(Error::invalid(format!("{field} must name categories or types")));
    }
    Ok(matching)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_categories_or_types() {
        let text = r#"[{"match":{"categories":["a","b-1"],"types":["T"]},"after":7},{"absent":{"types":["T"]}}]"#;
        let read = checks(text, &Limits::default()).expect("checks");
        let matching = Matching::categories(["a", "b-1"]).types(["T"]);
        let types = Matching::default().types(["T"]);
        assert_eq!(
            read,
            [
                Check::Condition(Condition { matching, after: Some(7) }),
                Check::Condition(Condition { matching: types, after: None }),
            ]
        );
    }

    #[test]
    fn errors_name_the_check() {
        for (check, message) in [
            ("{}", "checks[0].stream is required, or match, or absent"),
            (r#"{"match":{"types":["T"]}}"#, "checks[0].after is required"),
            (r#"{"match":{"types":["T"]},"after":-1}"#, "checks[0].after must be 0 or more"),
            (r#"{"match":{},"after":0}"#, "checks[0].match must name categories or types"),
            (r#"{"absent":{"types":[]}}"#, "checks[0].absent.types must have at least one name"),
            (r#"{"absent":{"types":["T"]},"after":0}"#, "checks[0].after must not be given"),
            (r#"{"absent":{"kinds":["T"]}}"#, "checks[0].absent must not have"),
            (r#"{"stream":"a","match":{"types":["T"]},"after":0}"#, "checks[0] must have only one of"),
            (r#"{"stream":"a","expectedVersion":1,"after":0}"#, "checks[0].after must not be given"),
            (r#"{"absent":{"categories":["a\n"]}}"#, "checks[0].absent.categories[0] must"),
        ] {
            let error = checks(&format!("[{check}]"), &Limits::default()).expect_err(check);
            assert!(error.message.starts_with(message), "{check}: {}", error.message);
        }
    }
}
