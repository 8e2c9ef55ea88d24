//! Query strings: form-encoded, raw UTF-8 accepted, empty parameters as if they were not there.

use std::borrow::Cow;

use eventodb_protocol::spelling::{Shown, is_respelled};
use percent_encoding::percent_decode_str;

use crate::api::errors::Failure;

/// The parameters of a request that its path knows and that are not empty.
#[derive(Debug, Default)]
pub(crate) struct Query {
    parameters: Vec<(&'static str, String)>,
}

impl Query {
    /// Takes a query string apart. Parameters of other names than `known` are ignored: proxies and
    /// pages add their own.
    ///
    /// # Errors
    /// `INVALID_REQUEST` where it is not valid UTF-8, or a known parameter is spelled in another way.
    pub(crate) fn parse(query: Option<&str>, known: &[&'static str]) -> Result<Self, Failure> {
        let mut parameters = Vec::new();
        for pair in query.unwrap_or_default().split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            if value.is_empty() {
                continue;
            }
            if let Some(known) = known.iter().find(|known| **known == name) {
                parameters.push((*known, value));
            } else if let Some(meant) = known.iter().find(|known| is_respelled(&name, known)) {
                return Err(Failure::invalid(format!(
                    "the query string must not have {}; did you mean {meant}?",
                    Shown(&name)
                )));
            }
        }
        Ok(Self { parameters })
    }

    /// The first value of that name that is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    /// The first of these names that has a value.
    pub(crate) fn first(&self, names: &[&str]) -> Option<&str> {
        names.iter().find_map(|name| self.get(name))
    }
}

/// Decodes a form-encoded name or value. A `%` that is not followed by two hex digits is kept. `form_urlencoded` would
/// replace bytes that are not UTF-8 instead of refusing them.
fn decode(text: &str) -> Result<String, Failure> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Cow::into_owned).map_err(|_| Failure::invalid("the query string must be valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(query: &str, name: &'static str) -> Option<String> {
        Query::parse(Some(query), &[name]).expect("a query").get(name).map(str::to_owned)
    }

    #[test]
    fn is_form_encoded() {
        assert_eq!(get("category=two+words", "category").as_deref(), Some("two words"));
        assert_eq!(get("category=a%2Bb", "category").as_deref(), Some("a+b"));
        assert_eq!(get("stream=z%C3%A4h-1&x", "stream").as_deref(), Some("zäh-1"));
        assert_eq!(get("stream=zäh-1", "stream").as_deref(), Some("zäh-1"));
        assert_eq!(get("a=100%&b=%zz%4", "a").as_deref(), Some("100%"));
        assert_eq!(get("a=b=c", "a").as_deref(), Some("b=c"));
    }

    #[test]
    fn empty_values_count_as_absent() {
        assert_eq!(get("a=&a&a=1&a=2", "a").as_deref(), Some("1"));
        assert_eq!(get("a=", "a"), None);
    }

    #[test]
    fn a_known_parameter_in_another_spelling_is_refused() {
        let parse = |query| Query::parse(Some(query), &["token", "lastEventId"]);
        for bad in ["Token=x", "last_event_id=1", "token=x&last-event-id=1", "lasteventid=1", "%54oken=x"] {
            let failure = parse(bad).expect_err(bad);
            assert!(failure.message().contains("did you mean"), "{bad}: {}", failure.message());
        }
        for good in ["Token=&last_event_id", "tokens=x&utm_source=y&_=1&=2&metadata=3"] {
            assert!(parse(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn refuses_what_is_not_unicode() {
        assert!(Query::parse(Some("stream=%ff"), &[]).is_err());
        assert!(Query::parse(Some("%ED%A0%80=1"), &[]).is_err());
    }

    mod fuzz {
        use eventodb_protocol::testing::mangled_text;
        use proptest::prelude::*;

        use super::*;

        /// Form-encodes every byte.
        fn encoded(text: &str) -> String {
            text.bytes().map(|byte| format!("%{byte:02x}")).collect()
        }

        proptest! {
                    #[test]
                    fn any_query_is_refused_or_read(query in mangled_text("(stream|a|%C3%A9|=|&|\\+|%|%4|é){0,12}")) {
                        let Ok(parsed) = Query::parse(Some(&query), &["stream", "a", "é"]) else { return Ok(()) };
                        prop_assert!(parsed.parameters.len() <= query.len());
                        for (name, _) in &parsed.parameters {
                            prop_assert!(parsed.get(name).is_some_and(|value| !value.is_empty()));
                        }
                    }

                    #[test]
        fn what_is_encoded_comes_back(value in "\\PC{1,20}") {
                        prop_assert_eq!(get(&format!("x=1&{}={}", encoded("é"), encoded(&value)), "é"), Some(value));
                    }
                }
    }
}
