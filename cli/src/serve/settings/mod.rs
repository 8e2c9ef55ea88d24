//! The settings of `serve`, from four layers: the defaults, the file of `--config`, variables, and flags.
//!
//! clap describes each setting once, in `args`. The flags that were typed are remembered as they were typed. The file's
//! settings that nothing above them sets are put beside them, and clap parses them all together, so that a value
//! of the file is held to the same rules as one behind a flag.

mod file;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches};
use eventodb_protocol::reply::{Configuration, Setting};
use eventodb_protocol::spelling;
use sha2::{Digest as _, Sha256};

use self::file::{Entry, Found};
use super::args::Args;
use super::config::Checked;
use super::secret::is_open_to_all;
use crate::usage::{Usage, of_clap};

/// The flags of `serve` as they were typed, and the file beneath them.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Settings {
    /// File of settings in TOML. Its keys are the names of these flags without the dashes in front. Variables and flags
    /// take precedence over it.
    #[arg(long, env = "EVENTODB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    typed: Typed,
}

/// The settings behind a command whose --token is another one. The token of `serve` comes from the file and its variable.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SettingsBesideToken {
    /// File of settings in TOML, as `serve` takes it.
    #[arg(long, env = "EVENTODB_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    typed: TypedBesideToken,
}

impl From<SettingsBesideToken> for Settings {
    fn from(settings: SettingsBesideToken) -> Self {
        Self { config: settings.config, typed: settings.typed.0 }
    }
}

/// The flags that were typed, without those whose values come from elsewhere.
#[derive(Clone, Debug, Default)]
struct Typed(Vec<Given>);

/// The same without the flags of a token.
#[derive(Clone, Debug)]
struct TypedBesideToken(Typed);

/// A setting, and its value in a layer.
#[derive(Clone, Debug)]
struct Given {
    id: String,
    value: Value,
}

/// A value as it is typed behind a flag.
#[derive(Clone, PartialEq, Eq)]
struct Value(OsString);

impl Value {
    /// The argument that sets a flag to this value.
    fn typed(&self, flag: &Arg) -> OsString {
        let mut argument = OsString::from(format!("--{}=", flag.get_long().unwrap_or_default()));
        argument.push(&self.0);
        argument
    }

    /// Whether it opens something: a token, or a URL with a password.
    fn is_secret(&self, flag: &Arg) -> bool {
        let text = self.0.to_string_lossy();
        is_secret(flag) && (!text.contains("://") || text.contains('@'))
    }
}

/// It may be a secret.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(…)")
    }
}

/// Where a value comes from. A later one takes precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    Default,
    /// This file and line.
    File(String),
    /// This variable.
    Variable(String),
    Flag,
    /// A call of `sys.config`.
    Call,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(place) => f.write_str(place),
            Self::Variable(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
            Self::Call => f.write_str("sys.config"),
        }
    }
}

/// All settings, of all layers.
pub(super) struct Layered {
    pub(super) args: Args,
    /// Each setting, in the order of the help.
    pub(super) settings: Vec<Setting>,
    /// What is allowed but unsafe.
    pub(super) warnings: Vec<String>,
}

/// What is wrong with the settings, each in one line.
#[derive(Debug)]
pub(crate) struct Problems(pub(crate) Vec<String>);

impl From<Problems> for Usage {
    /// The first, and how many there are.
    fn from(Problems(problems): Problems) -> Self {
        let more = match problems.len() {
            0 | 1 => String::new(),
            count => format!(" ({} more: see `eventodb config check`)", count - 1),
        };
        Self::new(problems.into_iter().next().unwrap_or_default() + &more)
    }
}

impl From<Usage> for Problems {
    fn from(usage: Usage) -> Self {
        Self(vec![eventodb_store::Chain(&usage).to_string()])
    }
}

/// The layers that a process has: what was typed, the file as it was last read, and what calls have set.
#[derive(Clone, Debug)]
pub(super) struct Layers {
    settings: Settings,
    entries: Vec<Entry>,
    /// By `sys.config`. It takes precedence over all else.
    call: Vec<Given>,
}

impl Settings {
    /// The settings that a server would start with, and what is allowed but unsafe.
    ///
    /// # Errors
    /// What is wrong with them, all that the file has.
    pub(crate) fn shown(&self) -> Result<(Configuration, Vec<String>), Problems> {
        let layered = self.read()?.join()?;
        let settings = layered.effective(&layered.check()?);
        Ok((Configuration { hash: hash(&settings), settings }, layered.warnings))
    }

    /// Whether a flag was typed.
    pub(crate) fn is_typed(&self) -> bool {
        !self.typed.0.is_empty()
    }

    /// Whether there is a file.
    pub(super) fn has_file(&self) -> bool {
        self.config.is_some()
    }

    /// The layers with the file as it is now, and without calls.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read(&self) -> Result<Layers, Problems> {
        let command = command();
        let Found { entries, problems } = match &self.config {
            Some(path) => file::read(path, &command)?,
            None => Found::default(),
        };
        match problems.is_empty() {
            true => Ok(Layers { settings: self.clone(), entries, call: Vec::new() }),
            false => Err(Problems(problems)),
        }
    }
}

impl Layers {
    /// The same layers, with the file as it is now.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn read_again(&self) -> Result<Self, Problems> {
        Ok(Self { call: self.call.clone(), ..self.settings.read()? })
    }

    /// The layers without what calls have set.
    pub(super) fn without_calls(&self) -> Self {
        Self { call: Vec::new(), ..self.clone() }
    }

    /// The same layers after a call that sets and withdraws these settings.
    pub(super) fn called(&self, set: &[(&str, String)], reset: &[&str]) -> Self {
        let command = command();
        let is_touched = |id: &str| {
            let name = flag(&command, id).and_then(Arg::get_long).unwrap_or_default();
            reset.contains(&name) || set.iter().any(|(other, _)| *other == name)
        };
        let kept = self.call.iter().filter(|given| !is_touched(&given.id)).cloned();
        let new = set.iter().filter_map(|(name, text)| {
            let flag = command.get_arguments().find(|flag| flag.get_long() == Some(*name))?;
            Some(Given { id: flag.get_id().to_string(), value: Value(text.into()) })
        });
        Self { call: kept.chain(new).collect(), ..self.clone() }
    }

    /// All layers as one.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn join(&self) -> Result<Layered, Problems> {
        let command = command();
        let is_called = |id: &str| self.call.iter().any(|given| given.id == id);
        let in_force = |entry: &&Entry| !is_called(&entry.id) && !self.settings.overrides(&command, &entry.id);
        let entries: Vec<Entry> = self.entries.iter().filter(in_force).cloned().collect();
        let of_file = entries.iter().map(|entry| (&entry.id, &entry.value));
        let typed = self.settings.typed.0.iter().filter(|given| !is_called(&given.id)).chain(&self.call);
        let all = of_file.chain(typed.map(|given| (&given.id, &given.value)));
        let typed = all.filter_map(|(id, value)| Some(value.typed(flag(&command, id)?)));
        let line = std::iter::once(OsString::from("eventodb")).chain(typed);
        let matches = command.clone().try_get_matches_from(line).map_err(|error| of_clap(&error, &command))?;
        let args = Args::from_arg_matches(&matches).map_err(|error| of_clap(&error, &command))?;
        let settings = command.get_arguments().map(|flag| self.setting(flag, &matches, &entries)).collect();
        let warnings = self.settings.warnings(&command, &entries).into_iter().collect();
        Ok(Layered { args, settings, warnings })
    }

    fn setting(&self, flag: &Arg, matches: &ArgMatches, entries: &[Entry]) -> Setting {
        let id = flag.get_id().as_str();
        let of_file = entries.iter().find(|entry| entry.id == id);
        let origin = match (matches.value_source(id), of_file, &self.settings.config) {
            _ if self.call.iter().any(|given| given.id == id) => Origin::Call,
            (_, Some(entry), Some(path)) => Origin::File(file::place(path, entry.line)),
            (Some(ValueSource::CommandLine), ..) => Origin::Flag,
            (Some(ValueSource::EnvVariable), ..) => Origin::Variable(variable(flag).unwrap_or_default()),
            _ => Origin::Default,
        };
        let value = matches.get_raw(id).map(|values| match is_secret(flag) {
            true => HIDDEN.to_owned(),
            false => values.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(","),
        });
        let name = flag.get_long().unwrap_or_default().to_owned();
        let changeable = CHANGEABLE.contains(&name.as_str());
        Setting { name, value, from: origin.to_string(), changeable, beneath: None, after_restart: None }
    }
}

impl Settings {
    /// Whether a flag or a variable sets the same as an entry of the file, or what cannot be together with it.
    fn overrides(&self, command: &Command, id: &str) -> bool {
        let is_set = |flag: &Arg| {
            self.typed.0.iter().any(|given| flag.get_id() == given.id.as_str()) || variable(flag).is_some()
        };
        flag(command, id).is_some_and(|flag| {
            is_set(flag)
                || command.get_arg_conflicts_with(flag).into_iter().any(is_set)
                || is_conflict(command, flag, is_set)
        })
    }

    /// A file with a secret should be its owner's.
    fn warnings(&self, command: &Command, entries: &[Entry]) -> Option<String> {
        let path = self.config.as_ref()?;
        let secret =
            entries.iter().find(|entry| flag(command, &entry.id).is_some_and(|flag| entry.value.is_secret(flag)))?;
        let place = file::place(path, secret.line);
        is_open_to_all(path)
            .then(|| format!("every user of this machine may read {place}, which has a secret: chmod 600"))
    }
}

/// The settings that may be changed while the server runs.
pub(super) const CHANGEABLE: &[&str] = &[
    "log-level",
    "access-log",
    "access-log-per-second",
    "read-only",
    "subscriptions",
    "max-subscriptions-per-namespace",
    "max-subscriptions-per-token",
    "max-waits-per-namespace",
    "max-waits-per-token",
    "max-requests-per-address",
    "max-requests-per-token",
    "max-wrong-tokens",
    "slow-query-threshold-ms",
];

/// What is shown in place of a secret.
const HIDDEN: &str = "…";

impl Layered {
    /// The checked configuration.
    ///
    /// # Errors
    /// What does not fit together.
    pub(super) fn check(&self) -> Result<Checked, Problems> {
        Ok(Checked::try_from(self.args.clone())?)
    }

    /// The settings as they are in force: what depends on the machine if it is left out has its value, too.
    pub(super) fn effective(&self, checked: &Checked) -> Vec<Setting> {
        let mut settings = self.settings.clone();
        let computed = checked.computed();
        for setting in settings.iter_mut().filter(|setting| setting.value.is_none()) {
            let found = computed.iter().find(|(name, _)| *name == setting.name);
            setting.value = found.map(|(_, value)| value.to_string());
        }
        settings
    }
}

/// The variables named `EVENTODB_…` that no command knows, with a name that is known. `root` has all commands.
pub(crate) fn stray_variables(root: &Command) -> Vec<String> {
    let mut known = Vec::new();
    collect_variables(root, &mut known);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let stray = names.filter(|name| name.starts_with("EVENTODB_") && !known.contains(name));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let mut told: Vec<String> =
        stray.map(|name| format!("there is no variable {name}; did you mean {}?", nearest(&name, &known))).collect();
    told.sort();
    told
}

fn collect_variables(command: &Command, into: &mut Vec<String>) {
    let names = command.get_arguments().filter_map(Arg::get_env).map(|name| name.to_string_lossy().into_owned());
    into.extend(names);
    command.get_subcommands().for_each(|command| collect_variables(command, into));
}

/// A text that changes with each value, but not with secrets, which could be guessed from it.
pub(super) fn hash(settings: &[Setting]) -> String {
    let mut hash = Sha256::new();
    for Setting { name, value, .. } in settings {
        hash.update(format!("{name}={value:?}\n"));
    }
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// All settings, as a command line without commands.
fn command() -> Command {
    Args::augment_args(Command::new("eventodb serve"))
}

fn flag<'c>(command: &'c Command, id: &str) -> Option<&'c Arg> {
    command.get_arguments().find(|flag| flag.get_id() == id)
}

/// Whether a flag that is set cannot be together with this one. clap tells of a conflict at one of the two flags.
fn is_conflict(command: &Command, flag: &Arg, is_set: impl Fn(&Arg) -> bool) -> bool {
    let mut others = command.get_arguments().filter(|other| is_set(other));
    others.any(|other| command.get_arg_conflicts_with(other).iter().any(|with| with.get_id() == flag.get_id()))
}

/// The flag's variable, if it is set.
fn variable(flag: &Arg) -> Option<String> {
    let name = flag.get_env()?;
    std::env::var_os(name).map(|_| name.to_string_lossy().into_owned())
}

/// Whether a value is shown to nobody.
fn is_secret(flag: &Arg) -> bool {
    flag.is_hide_env_values_set()
}

/// The argument that an error is about.
fn argument_of(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument),
        _ => None,
    }
}

/// The setting that a wrong name was probably meant to be.
fn nearest<'n>(name: &str, known: &[&'n str]) -> &'n str {
    spelling::nearest(name, known).unwrap_or_default()
}

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

impl clap::Args for Typed {
    fn augment_args(command: Command) -> Command {
        Args::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Args::augment_args_for_update(command)
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
        let own = command();
        let flags = own.get_arguments().filter(|flag| !["token", "token_file"].contains(&flag.get_id().as_str()));
        flags.fold(outer, |outer, flag| outer.arg(flag.clone()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_has_the_variable_of_its_name() {
        for flag in command().get_arguments() {
            let name = flag.get_long().expect("every flag has a name").to_uppercase().replace('-', "_");
            let prefix = if name.starts_with("TOKEN") { "EVENTODB_SERVE_" } else { "EVENTODB_" };
            assert_eq!(flag.get_env().and_then(OsStr::to_str), Some(&*format!("{prefix}{name}")));
        }
    }
}
