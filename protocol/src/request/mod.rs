//! Requests: a body is cut into a method and its arguments, and each argument is checked.
//!
//! A body is `["method", arg1, arg2, …]`. An argument is parsed only when the method asks for it. Every error names the
//! argument or option at fault.

mod check;
mod configuration;
#[cfg(test)]
mod fuzz;
pub mod group;
mod message;
mod namespace;
mod read;
mod token;
mod write;

use std::borrow::Cow;

use crate::spelling::{Shown, nearest};
use crate::{Error, Limits, Timestamp, json, name};

pub use check::Check;
pub use configuration::ChangeConfiguration;
pub use message::{check_object, message_id};
pub use namespace::{CreateNamespace, GivenToken, UpdateNamespace};
pub use read::{ListPage, Read};
pub use token::{CreateToken, ListTokens, RevokeToken, RotateToken};
pub use write::{Append, AppendEntry, expected, single_write, stream_append, streams_append};

/// A well-formed call: the method and its arguments, in compact JSON.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    method: Cow<'a, str>,
    arguments: json::Elements<'a>,
}

impl<'a> Call<'a> {
    /// Cuts a compact body (see [`json::compact`]) into the method and its arguments.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is not an array that begins with a method's name.
    pub fn parse(compact: &'a str) -> Result<Self, Error> {
        const SHAPE: &str = "the body must be a JSON array [\"method\", argument, …]";
        let mut arguments = json::elements(compact).ok_or_else(|| Error::invalid(SHAPE))?;
        let method = arguments.next().ok_or_else(|| Error::invalid(SHAPE))?;
        let method = json::string(method).ok_or_else(|| Error::invalid("method must be a string"))?;
        Ok(Self { method, arguments })
    }

    /// The name of the method of a body, compact or not, of which only the beginning is looked at: if the body is a call, it
    /// is one of this method. `None` if it does not begin as one.
    pub fn method_of(body: &[u8]) -> Option<Cow<'_, str>> {
        let name = body.trim_ascii_start().strip_prefix(b"[")?.trim_ascii_start();
        let quoted = name.strip_prefix(b"\"")?;
        let mut is_escaped = false;
        let end = quoted.iter().position(|byte| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            is_end
        })?;
        json::string(str::from_utf8(&name[..end + 2]).ok()?)
    }

    /// The method's name.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// The next argument, which is required. `null` counts as missing.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn required(&mut self, name: &str) -> Result<&'a str, Error> {
        self.optional().ok_or_else(|| Error::invalid(format!("{name} is required")))
    }

    /// The next argument, unless it is missing or `null`.
    pub fn optional(&mut self) -> Option<&'a str> {
        self.arguments.next().filter(|value| *value != "null")
    }

    /// The next argument as a string.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn string(&mut self, name: &str) -> Result<Cow<'a, str>, Error> {
        string(name, self.required(name)?)
    }

    /// The next argument as the name of a stream or namespace.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn name(&mut self, name: &str, limits: &Limits) -> Result<Cow<'a, str>, Error> {
        let text = self.string(name)?;
        name::check(name, &text, limits)?;
        Ok(text)
    }

    /// The next argument as options of these names: an object, `null` or nothing.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is something else, or has an option of another name.
    pub fn options(&mut self, known: &'static [&'static str]) -> Result<Options<'a>, Error> {
        Options::parse("options", "", self.optional().unwrap_or("{}"), known)
    }
}

/// An object of named, optional values, which is cut into them once. The last of repeated members counts, and `null`
/// counts as absent. An unknown name is an error, because a mistyped option would have no effect without notice.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The prefix of an option's name in errors, such as `consumerGroup.`.
    prefix: &'a str,
    /// The names of the options.
    known: &'a [&'static str],
    /// The given values, each at the index of its name in `known`.
    given: Vec<(usize, &'a str)>,
}

impl<'a> Options<'a> {
    /// The members of `object`; errors call it `name` and its members `prefix` + their name.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if it is not an object, or has a member that is not among `known`.
    pub fn parse(name: &str, prefix: &'a str, object: &'a str, known: &'a [&'static str]) -> Result<Self, Error> {
        let members = json::members(object).ok_or_else(|| Error::invalid(format!("{name} must be an object")))?;
        let mut given: Vec<(usize, &str)> = Vec::new();
        for (key, value) in members {
            let key = json::string(key);
            match key.as_deref().and_then(|key| known.iter().position(|known| *known == key)) {
                Some(at) => match given.iter_mut().find(|(name, _)| *name == at) {
                    Some((_, earlier)) => *earlier = value,
                    None => given.push((at, value)),
                },
                None if value == "null" => {}
                None => return Err(unknown(prefix, key.as_deref(), known)),
            }
        }
        Ok(Self { prefix, known, given })
    }

    /// The option's compact text.
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        let at = self.known.iter().position(|known| *known == name).expect("what is read is among the known names");
        let (_, value) = self.given.iter().find(|(name, _)| *name == at)?;
        (*value != "null").then_some(*value)
    }

    /// An option that is an integer within 64 bits.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, Error> {
        self.raw(name).map(|value| integer(&self.full(name), value)).transpose()
    }

    /// An option that is `true` or `false`.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Error> {
        self.raw(name).map(|value| boolean(&self.full(name), value)).transpose()
    }

    /// An option that is a string.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn string(&self, name: &str) -> Result<Option<Cow<'a, str>>, Error> {
        self.raw(name).map(|value| string(&self.full(name), value)).transpose()
    }

    /// An option that is a time.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn time(&self, name: &str) -> Result<Option<Timestamp>, Error> {
        let Some(text) = self.string(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|error| Error::invalid(format!("{}: {error}", self.full(name))))
    }

    /// An option that is an array of at most `most` strings.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn strings(&self, name: &str, most: usize) -> Result<Option<Vec<Cow<'a, str>>>, Error> {
        self.raw(name).map(|value| strings(&self.full(name), value, most)).transpose()
    }

    /// An option that is an object, as text.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming it.
    pub fn object(&self, name: &str) -> Result<Option<&'a str>, Error> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        if !value.starts_with('{') {
            return Err(Error::invalid(format!("{} must be an object", self.full(name))));
        }
        Ok(Some(value))
    }

    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

#[cold]
fn unknown(prefix: &str, name: Option<&str>, known: &[&str]) -> Error {
    let object = prefix.strip_suffix('.').unwrap_or("options");
    let Some(name) = name else { return Error::invalid(format!("a member's name in {object} must be valid Unicode")) };
    let nearest = nearest(name, known).unwrap_or_default();
    Error::invalid(format!("{object} must not have {}, which is unknown; did you mean {prefix}{nearest}?", Shown(name)))
}

/// A JSON integer within 64 bits: digits, optionally after a minus, and nothing else.
fn integer(name: &str, value: &str) -> Result<i64, Error> {
    value.parse().map_err(|_| Error::invalid(format!("{name} must be an integer within 64 bits")))
}

fn boolean(name: &str, value: &str) -> Result<bool, Error> {
    value.parse().map_err(|_| Error::invalid(format!("{name} must be true or false")))
}

fn string<'a>(name: &str, value: &'a str) -> Result<Cow<'a, str>, Error> {
    json::string(value).ok_or_else(|| Error::invalid(format!("{name} must be a string of valid Unicode")))
}

/// The strings of an array. They are counted before any is copied, so that the memory of a waiting read is bounded by
/// `most` and not by the size of the request.
fn strings<'a>(name: &str, value: &'a str, most: usize) -> Result<Vec<Cow<'a, str>>, Error> {
    let elements =
        json::elements(value).ok_or_else(|| Error::invalid(format!("{name} must be an array of strings")))?;
    let count = elements.clone().count();
    if count > most {
        return Err(Error::invalid(format!("{name} must have at most {most} names, got {count}")));
    }
    elements.enumerate().map(|(at, element)| string(&format!("{name}[{at}]"), element)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_named_in_errors() {
        let mut call = Call::parse(r#"["stream.get",null]"#).expect("a call");
        assert_eq!(call.method(), "stream.get");
        assert_eq!(call.string("stream").expect_err("null is missing").message, "stream is required");
        let mut call = Call::parse(r#"["stream.get",7]"#).expect("a call");
        assert_eq!(call.string("stream").expect_err("a number").message, "stream must be a string of valid Unicode");
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        const KNOWN: &[&str] = &["id", "expectedVersion"];
        let options = |text| Options::parse("options", "", text, KNOWN);
        let error = options(r#"{"expectedversion":1}"#).expect_err("unknown");
        assert_eq!(
            error.message,
            r#"options must not have "expectedversion", which is unknown; did you mean expectedVersion?"#
        );
        for bad in [r#"{"foo":1}"#, r#"{"":{}}"#, r#"{"id":"x","\u0049d":1}"#, r#"{"\ud800":1}"#] {
            assert!(options(bad).is_err(), "{bad}");
        }
        for good in ["{}", r#"{"\u0069d":"x"}"#, r#"{"foo":null}"#] {
            assert!(options(good).is_ok(), "{good}");
        }
        let error = Options::parse("entries[3]", "entries[3].", r#"{"expected":1}"#, KNOWN).expect_err("unknown");
        assert!(error.message.ends_with("did you mean entries[3].expectedVersion?"), "{}", error.message);
    }

    #[test]
    fn of_repeated_options_the_last_counts() {
        let options = Options::parse("options", "", r#"{"n":1,"\u006e":2}"#, &["n"]).expect("options");
        assert_eq!(options.integer("n"), Ok(Some(2)));
        let options = Options::parse("options", "", r#"{"n":1,"n":null}"#, &["n"]).expect("options");
        assert_eq!(options.integer("n"), Ok(None));
    }

    #[test]
    fn integers_are_json_integers_within_64_bits() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("-0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("1.0", None),
            ("1e2", None),
            ("\"1\"", None),
            ("true", None),
        ] {
            assert_eq!(integer("n", text).ok(), expected, "{text}");
        }
    }
}
