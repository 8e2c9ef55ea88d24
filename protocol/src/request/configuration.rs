//! The options of `sys.config`: settings to be changed, by the names of their flags.

use super::{Call, Options, strings};
use crate::Error;

/// The option that withdraws what earlier calls have set.
const RESET: &str = "reset";

/// What a call of `sys.config` changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeConfiguration {
    /// Names and values, as they would be typed behind the flags.
    pub set: Vec<(&'static str, String)>,
    /// Settings that are again as they would be without earlier calls.
    pub reset: Vec<&'static str>,
}

impl ChangeConfiguration {
    /// Parses the options, of which `changeable` are the names.
    ///
    /// # Errors
    /// `INVALID_REQUEST` if a name is unknown, a value is neither a text nor a number nor true nor false, or a
    /// setting is set and reset at once.
    pub fn parse(call: &mut Call<'_>, changeable: &'static [&'static str]) -> Result<Self, Error> {
        let known: Vec<&'static str> = changeable.iter().copied().chain([RESET]).collect();
        let options = Options::parse("options", "", call.optional().unwrap_or("{}"), &known)?;
        let values = changeable.iter().filter_map(|name| options.raw(name).map(|value| (*name, value)));
        let set = values.map(|(name, value)| Ok((name, typed(name, value)?))).collect::<Result<Vec<_>, Error>>()?;
        let reset = match options.raw(RESET) {
            Some(value) => names(value, changeable)?,
            None => Vec::new(),
        };
        match reset.iter().find(|name| set.iter().any(|(other, _)| other == *name)) {
            Some(name) => Err(Error::invalid(format!("{name} is set and reset in one call"))),
            None => Ok(Self { set, reset }),
        }
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.reset.is_empty()
    }

    /// The names of all settings that are changed.
    pub fn names(&self) -> Vec<&'static str> {
        self.set.iter().map(|(name, _)| *name).chain(self.reset.iter().copied()).collect()
    }
}

/// The value as it would be typed.
fn typed(name: &str, value: &str) -> Result<String, Error> {
    match value.as_bytes().first() {
        Some(b'"') => super::string(name, value).map(std::borrow::Cow::into_owned),
        Some(b'[' | b'{') | None => Err(Error::invalid(format!("{name} must be a string, a number, true or false"))),
        Some(_) => Ok(value.to_owned()),
    }
}

fn names(value: &str, changeable: &'static [&'static str]) -> Result<Vec<&'static str>, Error> {
    let unknown = |name: &str| super::unknown("reset.", Some(name), changeable);
    let known = |name: &str| changeable.iter().copied().find(|known| *known == name).ok_or_else(|| unknown(name));
    strings(RESET, value, changeable.len())?.iter().map(|name| known(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGEABLE: &[&str] = &["log-level", "read-only", "max-wrong-tokens"];

    fn parsed(options: &str) -> Result<ChangeConfiguration, Error> {
        let body = format!(r#"["sys.config",{options}]"#);
        ChangeConfiguration::parse(&mut Call::parse(&body).expect("a call"), CHANGEABLE)
    }

    #[test]
    fn values_are_taken_as_they_would_be_typed() {
        let change = parsed(r#"{"max-wrong-tokens":7,"read-only":true,"log-level":"debug","reset":[]}"#);
        let set =
            vec![("log-level", "debug".to_owned()), ("read-only", "true".into()), ("max-wrong-tokens", "7".into())];
        assert_eq!(change, Ok(ChangeConfiguration { set, reset: Vec::new() }));
        assert!(parsed("{}").is_ok_and(|change| change.is_empty()));
        assert!(parsed(r#"{"log-level":null}"#).is_ok_and(|change| change.is_empty()));
        let change = parsed(r#"{"reset":["read-only"],"log-level":"x"}"#).expect("a change");
        assert_eq!(change.names(), ["log-level", "read-only"]);
    }

    #[test]
    fn wrong_names_and_values_are_refused() {
        for (options, culprit) in [
            (r#"{"logLevel":"debug"}"#, "did you mean log-level?"),
            (r#"{"port":1}"#, "port"),
            (r#"{"read-only":[true]}"#, "read-only must be"),
            (r#"{"read-only":{}}"#, "read-only must be"),
            (r#"{"reset":"read-only"}"#, "reset must be an array"),
            (r#"{"reset":["readonly"]}"#, "did you mean reset.read-only?"),
            (r#"{"reset":["read-only"],"read-only":true}"#, "set and reset"),
            ("[]", "options must be an object"),
        ] {
            let refused = parsed(options).expect_err(options);
            assert!(refused.message.contains(culprit), "{options}: {}", refused.message);
        }
    }
}
