//! The settings of `serve`, from four layers: the defaults, the file of `--config`, variables, and flags.
//!
//! clap describes each setting once, in `args`. Of each setting the highest layer's value is taken as it was typed there, and
//! clap parses it alone, so that every wrong value is found, and a value of the file is held to the same rules as one behind a
//! flag. Then clap parses them all together, and `config` finds what does not fit together.

mod file;
mod typed;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args as _, Command, FromArgMatches};
use eventodb_protocol::reply::{Configuration, Setting};
use eventodb_protocol::spelling;
use sha2::{Digest as _, Sha256};

use self::file::{Entry, Found};
use self::typed::{Typed, TypedBesideToken};
use super::args::Args;
use super::config::{Checked, Misfit};
use super::idle;
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

/// The value of a setting that is in force, and the layer that it comes from.
#[derive(Debug)]
struct InForce {
    id: String,
    value: Value,
    origin: Origin,
}

/// All settings, of all layers.
pub(super) struct Layered {
    pub(super) args: Args,
    /// Each setting, in the order of the help.
    pub(super) settings: Vec<Setting>,
    /// What is allowed but unsafe, or has no effect.
    pub(super) warnings: Vec<String>,
}

/// Settings in which nothing is wrong.
pub(super) struct Examined {
    pub(super) layers: Layers,
    pub(super) layered: Layered,
    pub(super) checked: Checked,
}

/// Something that is wrong with the settings.
#[derive(Debug)]
pub(super) struct Problem {
    /// The name of the setting, or of every one if it is not known which are meant.
    setting: Option<String>,
    text: String,
}

impl Problem {
    fn of(setting: &str, text: String) -> Self {
        Self { setting: Some(setting.to_owned()), text }
    }

    /// What was meant is not known.
    fn of_everything(text: String) -> Self {
        Self { setting: None, text }
    }
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

impl From<Vec<Problem>> for Problems {
    fn from(problems: Vec<Problem>) -> Self {
        Self(problems.into_iter().map(|problem| problem.text).collect())
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
    /// The settings that a server would start with, and what is allowed but unsafe or has no effect.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn shown(&self) -> Result<(Configuration, Vec<String>), Problems> {
        let Examined { layered, checked, .. } = self.examined()?;
        let settings = layered.effective(&checked);
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

    /// The settings with the file as it is now, and without calls.
    ///
    /// # Errors
    /// All that is wrong with them: in the file, in variables and flags, and what does not fit together.
    pub(super) fn examined(&self) -> Result<Examined, Problems> {
        Layers { settings: self.clone(), entries: Vec::new(), call: Vec::new() }.examined_again()
    }
}

impl Layers {
    /// The same layers, with the file as it is now.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(super) fn examined_again(&self) -> Result<Examined, Problems> {
        let Found { entries, mut problems } = match &self.settings.config {
            Some(path) => file::read(path, &command()).unwrap_or_else(|error| Found {
                problems: vec![Problem::of_everything(eventodb_store::Chain(&error).to_string())],
                ..Found::default()
            }),
            None => Found::default(),
        };
        let layers = Self { entries, ..self.clone() };
        let (layered, wrong) = layers.joined();
        problems.extend(wrong);
        let Some(layered) = layered else { return Err(problems.into()) };
        match Checked::of(layered.args.clone()) {
            Ok(checked) if problems.is_empty() => {
                let mut layered = layered;
                let idle = idle::warnings(command().get_arguments(), &layered.settings, &layered.args, &checked);
                layered.warnings.extend(idle);
                Ok(Examined { layers, layered, checked })
            }
            Ok(_) => Err(problems.into()),
            Err(misfits) => {
                // What is wrong with a setting may be why it does not fit.
                let is_cause = |misfit: &Misfit, problem: &Problem| {
                    problem.setting.as_deref().is_none_or(|wrong| misfit.settings.contains(&wrong))
                };
                let of_its_own = |misfit: &Misfit| !problems.iter().any(|problem| is_cause(misfit, problem));
                let own: Vec<Problem> =
                    misfits.iter().filter(|misfit| of_its_own(misfit)).map(|misfit| layered.misfit(misfit)).collect();
                problems.extend(own);
                Err(problems.into())
            }
        }
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
    /// All that is wrong with them.
    pub(super) fn join(&self) -> Result<Layered, Problems> {
        match self.joined() {
            (Some(layered), problems) if problems.is_empty() => Ok(layered),
            (_, problems) => Err(problems.into()),
        }
    }

    /// All layers as one, without the values that are wrong. There is nothing if some cannot be together.
    fn joined(&self) -> (Option<Layered>, Vec<Problem>) {
        let command = command();
        let mut problems = Vec::new();
        let mut in_force = self.in_force(&command);
        in_force.retain(|InForce { id, value, origin }| {
            let flag = flag(&command, id).expect("it was found among them");
            let Some(error) = wrong(&command, flag, value) else { return true };
            let told = of_clap(&error, &command);
            let text = if *origin == Origin::Flag { told.to_string() } else { format!("{origin}: {told}") };
            problems.push(Problem::of(flag.get_long().unwrap_or_default(), text));
            false
        });
        let typed = in_force.iter().filter_map(|InForce { id, value, .. }| Some(value.typed(flag(&command, id)?)));
        let line = std::iter::once(OsString::from("eventodb")).chain(typed);
        let parsed = without_variables(&command).try_get_matches_from(line);
        let parsed = parsed.and_then(|matches| Args::from_arg_matches(&matches).map(|args| (args, matches)));
        let (args, matches) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                problems.push(Problem::of_everything(of_clap(&error, &command).to_string()));
                return (None, problems);
            }
        };
        let settings = command.get_arguments().map(|flag| setting(flag, &matches, &in_force)).collect();
        let warnings = self.settings.warnings(&command, &self.entries).into_iter().collect();
        (Some(Layered { args, settings, warnings }), problems)
    }

    /// Of each setting that a layer has, the value of the highest one.
    fn in_force(&self, command: &Command) -> Vec<InForce> {
        let of = |flag: &Arg| {
            let id = flag.get_id().as_str();
            let given = |all: &[Given]| all.iter().find(|given| given.id == id).map(|given| given.value.clone());
            let of_file = || {
                let entry = self.entries.iter().find(|entry| entry.id == id)?;
                let path = self.settings.config.as_ref()?;
                let is_covered = self.settings.overrides(command, id);
                (!is_covered).then(|| (entry.value.clone(), Origin::File(file::place(path, entry.line))))
            };
            let call = || given(&self.call).map(|value| (value, Origin::Call));
            let typed = || given(&self.settings.typed.0).map(|value| (value, Origin::Flag));
            let variable = || {
                let name = variable(flag)?;
                std::env::var_os(&name).map(|value| (Value(value), Origin::Variable(name)))
            };
            let (value, origin) = call().or_else(typed).or_else(variable).or_else(of_file)?;
            Some(InForce { id: id.to_owned(), value, origin })
        };
        command.get_arguments().filter_map(of).collect()
    }
}

fn setting(flag: &Arg, matches: &ArgMatches, in_force: &[InForce]) -> Setting {
    let id = flag.get_id().as_str();
    let from = in_force.iter().find(|given| given.id == id).map_or(&Origin::Default, |given| &given.origin);
    let value = matches.get_raw(id).map(|values| match is_secret(flag) {
        true => HIDDEN.to_owned(),
        false => values.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(","),
    });
    let name = flag.get_long().unwrap_or_default().to_owned();
    let changeable = CHANGEABLE.contains(&name.as_str());
    Setting { name, value, from: from.to_string(), changeable, beneath: None, after_restart: None }
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
        let is_secret = |entry: &Entry| flag(command, &entry.id).is_some_and(|flag| entry.value.is_secret(flag));
        let secret = entries.iter().find(|entry| !self.overrides(command, &entry.id) && is_secret(entry))?;
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
    /// What does not fit together, and where those settings come from that are no flags, which its text names.
    fn misfit(&self, misfit: &Misfit) -> Problem {
        let text = eventodb_store::Chain(&misfit.error).to_string();
        let elsewhere = |setting: &&Setting| {
            let is_of_it = misfit.settings.contains(&setting.name.as_str());
            is_of_it && ![Origin::Default, Origin::Flag].iter().any(|origin| origin.to_string() == setting.from)
        };
        let from = |setting: &Setting| format!("--{} is from {}", setting.name, setting.from);
        let from: Vec<String> = self.settings.iter().filter(elsewhere).map(from).collect();
        let text = if from.is_empty() { text } else { format!("{text} ({})", from.join(", ")) };
        Problem { setting: misfit.settings.first().map(|name| (*name).to_owned()), text }
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

/// The flags alone. A variable that is in force has a place of its own among the values.
fn without_variables(command: &Command) -> Command {
    command.clone().mut_args(|flag| flag.env(Resettable::<clap::builder::OsStr>::Reset))
}

/// The error of a value behind its flag, if the flag stands alone.
fn wrong(command: &Command, flag: &Arg, value: &Value) -> Option<clap::Error> {
    let line = [OsString::from("eventodb"), value.typed(flag)];
    let error = without_variables(command).try_get_matches_from(line).err()?;
    (error.kind() != ErrorKind::MissingRequiredArgument).then_some(error)
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

/// The setting that a wrong name was probably meant to be.
fn nearest<'n>(name: &str, known: &[&'n str]) -> &'n str {
    spelling::nearest(name, known).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_value_of_a_setting_is_refused_in_plain_words() {
        let command = command();
        let mut refused = 0;
        for flag in command.get_arguments() {
            for text in crate::usage::tests::WRONG {
                if let Some(error) = wrong(&command, flag, &Value((*text).into())) {
                    refused += 1;
                    let told = of_clap(&error, &command).to_string();
                    crate::usage::tests::is_plain(&told);
                    let says = ["expected", "it may be", "such as", "a value is required"]
                        .iter()
                        .any(|words| told.contains(words));
                    assert!(says && told.contains(&format!("--{}", flag.get_long().unwrap_or_default())), "{told}");
                }
            }
        }
        assert!(refused > 400, "only {refused} values were refused");
    }

    #[test]
    fn each_flag_has_the_variable_of_its_name() {
        for flag in command().get_arguments() {
            let name = flag.get_long().expect("every flag has a name").to_uppercase().replace('-', "_");
            let prefix = if name.starts_with("TOKEN") { "EVENTODB_SERVE_" } else { "EVENTODB_" };
            assert_eq!(flag.get_env().and_then(OsStr::to_str), Some(&*format!("{prefix}{name}")));
        }
    }
}
