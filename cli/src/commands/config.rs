//! `eventodb config`: whether the settings of `serve` are right, what they are, and where each comes from.

use std::io::Write as _;
use std::process::ExitCode;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches, Subcommand};
use eventodb_protocol::reply::{Layer, Setting};
use serde_json::json;

use super::connection::Connection;
use super::output::{Output, finish, one_line, print_json};
use crate::serve::{Problems, Settings, SettingsBesideToken, stray_variables};
use crate::usage::{Exit, Usage};

/// Options of `eventodb config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check what `serve` would start with, without starting it: the file, the variables and these flags.
    ///
    /// Every error of them is told, with the line or the variable that it comes from. Variables named EVENTODB_… that no command knows, and settings that have no effect, are warnings.
    Check(Box<Check>),
    /// Print each setting that `serve` would start with, and where it comes from.
    ///
    /// With --url: the settings of that server. It needs the administrator's token.
    Show(Box<Show>),
}

#[derive(Debug, clap::Args)]
struct Check {
    /// Print JSON: the errors and the warnings.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    // Before the connection, because that takes its values out of what is matched.
    #[command(flatten)]
    asked: Asked,
    #[command(flatten)]
    settings: SettingsBesideToken,
    #[command(flatten)]
    connection: Connection,
}

/// Whether a server is asked, which only a typed --url or --context means.
#[derive(Clone, Copy, Debug)]
struct Asked(bool);

impl clap::Args for Asked {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl FromArgMatches for Asked {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let typed = |id| matches.value_source(id) == Some(ValueSource::CommandLine);
        Ok(Self(typed("server_url") || typed("server_context")))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

pub(crate) async fn run(args: Args, root: &clap::Command) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(args) => check(&args, root),
        Command::Show(show) => self::show(*show).await,
    }
}

fn check(Check { json, settings }: &Check, root: &clap::Command) -> anyhow::Result<ExitCode> {
    let mut warnings = stray_variables(root);
    let errors = match settings.shown() {
        Ok((_, unsafe_ones)) => {
            warnings.extend(unsafe_ones);
            Vec::new()
        }
        Err(Problems(problems)) => problems,
    };
    let exit = if errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(Exit::Usage as u8) };
    if *json {
        return print_json(&json!({ "errors": errors, "warnings": warnings })).map(|_| exit);
    }
    warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    errors.iter().for_each(|error| tell(error));
    let mut output = Output::new(false);
    let said = if errors.is_empty() { output.line("the configuration is right") } else { Ok(()) };
    finish(said, output).map(|_| exit)
}

async fn show(show: Show) -> anyhow::Result<ExitCode> {
    let settings = Settings::from(show.settings);
    let configuration = match show.asked {
        Asked(true) if settings.is_typed() => {
            let message = "--url shows the settings of a running server: leave the flags of `serve` out";
            return Err(Usage::new(message).into());
        }
        Asked(true) => show.connection.connect().await?.server_configuration().await?,
        Asked(false) => settings.shown().map_err(Usage::from)?.0,
    };
    let mut output = Output::new(show.json);
    let rows: Vec<Vec<String>> = configuration.settings.iter().map(row).collect();
    let result = output.table(&serde_json::to_value(&configuration)?, &["SETTING", "VALUE", "FROM"], &rows);
    finish(result, output)
}

fn row(setting: &Setting) -> Vec<String> {
    let layer =
        |what: &str, layer: &Layer| format!("; {what} {} ({})", layer.value.as_deref().unwrap_or("none"), layer.from);
    let beneath = setting.beneath.as_ref().map(|beneath| layer("beneath it", beneath));
    let later = setting.after_restart.as_ref().map(|later| layer("after a restart", later));
    let from = [Some(setting.from.clone()), beneath, later].into_iter().flatten().collect();
    vec![setting.name.clone(), setting.value.clone().unwrap_or_default(), from]
}

/// Prints a line on standard error.
fn tell(line: &str) {
    // If that fails, there is no other place to report it.
    let _ = writeln!(std::io::stderr(), "eventodb: {}", one_line(line));
}
