//! The configuration file: TOML without sections, whose keys are the flags' names.
//!
//! Every error has the file and the line, and all of them are found, not only the first.

use std::ops::Range;
use std::path::Path;

use clap::{Arg, Command};
use eventodb_protocol::spelling::Shown;
use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::{Problem, Value};
use crate::usage::{Usage, brief};

/// A setting that the file has.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The name that clap has for the flag.
    pub(super) id: String,
    /// The line, from 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What the file has, and what is wrong with it.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) entries: Vec<Entry>,
    pub(super) problems: Vec<Problem>,
}

/// Reads the file. `command` has all flags.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(path: &Path, command: &Command) -> Result<Found, Usage> {
    let text = super::super::secret::whole("config", path)?;
    Ok(parse(path, &text, command))
}

fn parse(path: &Path, text: &str, command: &Command) -> Found {
    let mut found = Found::default();
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let message = error.message().replace('\n', " ");
        let text = format!("{}: {message}", place(path, line(text, error.span())));
        found.problems.push(Problem::of_everything(text));
    }
    let mut pairs: Vec<_> = table.get_ref().iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    for (key, value) in pairs {
        let line = line(text, Some(key.span()));
        match entry(key.get_ref(), value, command) {
            Ok((id, value)) => found.entries.push(Entry { id, line, value }),
            Err(problem) => {
                let text = format!("{}: {problem}", place(path, line));
                found.problems.push(Problem::of(key.get_ref(), text));
            }
        }
    }
    found
}

/// How a line of a file is named.
pub(super) fn place(path: &Path, line: usize) -> String {
    format!("{}:{line}", path.display())
}

fn line(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..end].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// The flag's id and its value, or what is wrong.
fn entry(key: &str, value: &Spanned<DeValue<'_>>, command: &Command) -> Result<(String, Value), String> {
    let Some(flag) = command.get_arguments().find(|flag| flag.get_long() == Some(key)) else {
        return Err(unknown(key, value.get_ref(), command));
    };
    let value = of_toml(flag, value.get_ref()).map_err(|wanted| expected(key, flag, &wanted))?;
    if let Some(error) = super::wrong(command, flag, &value) {
        return Err(format!("{} ({})", brief(&error), meaning(flag)));
    }
    Ok((flag.get_id().to_string(), value))
}

fn unknown(key: &str, value: &DeValue<'_>, command: &Command) -> String {
    if matches!(value, DeValue::Table(_)) {
        return format!("the file has no sections, and no {}: every setting stands by itself", Shown(key));
    }
    let known: Vec<&str> = command.get_arguments().filter_map(Arg::get_long).collect();
    format!("there is no setting {}; did you mean {}?", Shown(key), super::nearest(key, &known))
}

/// The value as it would be typed behind the flag.
fn of_toml(flag: &Arg, value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::Array(items) if flag.get_value_delimiter().is_some() => {
            let items: Result<Vec<String>, String> = items.iter().map(|item| scalar(item.get_ref())).collect();
            items.map(|items| Value(items.join(",").into()))
        }
        DeValue::Array(_) => Err("one value".to_owned()),
        value => scalar(value).map(|text| Value(text.into())),
    }
}

fn scalar(value: &DeValue<'_>) -> Result<String, String> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Boolean(on) => Ok(on.to_string()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err("a number, a text in quotes, true or false".to_owned())
        }
    }
}

fn integer(number: &DeInteger<'_>) -> Result<String, String> {
    let parsed = i128::from_str_radix(number.as_str(), number.radix());
    parsed.map(|number| number.to_string()).map_err(|_| "a smaller number".to_owned())
}

fn expected(key: &str, flag: &Arg, wanted: &str) -> String {
    format!("{key} takes {wanted} ({})", meaning(flag))
}

/// The first sentence of a flag's help.
fn meaning(flag: &Arg) -> String {
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    help.split(". ").next().unwrap_or_default().trim_end_matches('.').to_owned()
}
