//! The flags of `serve` as they are typed behind a command. What their values must be is checked together with the other layers.

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, Resettable, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command, FromArgMatches, Id};

use super::{Given, Value, command};

/// The flags that were typed, without those whose values come from elsewhere.
#[derive(Clone, Debug, Default)]
pub(super) struct Typed(pub(super) Vec<Given>);

/// The same without the flags of a token.
#[derive(Clone, Debug)]
pub(super) struct TypedBesideToken(pub(super) Typed);

impl Typed {
    fn of(matches: &ArgMatches) -> Self {
        let command = command();
        let given = command.get_arguments().filter_map(|flag| {
            let id = flag.get_id().as_str();
            let typed = matches.try_contains_id(id).ok()? && matches.value_source(id) == Some(ValueSource::CommandLine);
            let value = Value(matches.get_raw(id)?.collect::<Vec<_>>().join(OsStr::new(",")));
            typed.then(|| Given { id: id.to_owned(), value })
        });
        Self(given.collect())
    }
}

/// A flag as others are parsed beside it: with any value. What a value must be is checked with the other layers, so that one
/// look finds every wrong value, and not only that of the first flag or variable.
#[derive(Clone)]
struct Anything(Vec<PossibleValue>);

impl TypedValueParser for Anything {
    type Value = OsString;

    fn parse_ref(&self, _: &Command, _: Option<&Arg>, value: &OsStr) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        if self.0.is_empty() { None } else { Some(Box::new(self.0.iter().cloned())) }
    }
}

/// The flags of `serve` beside those of a command, as they are typed.
fn beside(outer: Command, is_left_out: impl Fn(&Arg) -> bool) -> Command {
    let own = command();
    let flags = own.get_arguments().filter(|flag| !is_left_out(flag));
    flags.fold(outer, |outer, flag| {
        let (hint, values) = (flag.get_value_hint(), flag.get_possible_values());
        let flag = flag.clone().value_parser(Anything(values)).value_hint(hint);
        outer.arg(flag.conflicts_with(Resettable::<Id>::Reset).display_order(Resettable::Reset))
    })
}

impl clap::Args for Typed {
    fn augment_args(outer: Command) -> Command {
        beside(outer, |_| false)
    }

    fn augment_args_for_update(outer: Command) -> Command {
        Self::augment_args(outer)
    }
}

impl FromArgMatches for Typed {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self::of(matches))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::of(matches);
        Ok(())
    }
}

impl clap::Args for TypedBesideToken {
    fn augment_args(outer: Command) -> Command {
        beside(outer, |flag| ["token", "token_file"].contains(&flag.get_id().as_str()))
    }

    fn augment_args_for_update(outer: Command) -> Command {
        Self::augment_args(outer)
    }
}

impl FromArgMatches for TypedBesideToken {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Typed::of(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self(Typed::of(matches));
        Ok(())
    }
}
