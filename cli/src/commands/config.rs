//! `eventodb config`: whether the settings of `serve` are right, what they are, and where each comes from.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::output::{Output, finish};
use crate::serve::{Layered, Problems, Setting, Settings, stray_variables};
use crate::usage::Exit;

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
    /// Every error of the file is told. Variables named EVENTODB_… that no command knows are a warning.
    Check(Box<Settings>),
    /// Print each setting that `serve` would start with, and where it comes from.
    Show(Box<Show>),
}

#[derive(Debug, clap::Args)]
struct Show {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(args: Args, root: &clap::Command) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Check(settings) => check(&settings, root),
        Command::Show(show) => self::show(*show),
    }
}

fn check(settings: &Settings, root: &clap::Command) -> anyhow::Result<ExitCode> {
    for variable in stray_variables(root) {
        tell(&format!("warning: {variable}"));
    }
    let checked = settings.layer().and_then(|layered| Ok((layered.warnings.clone(), layered.effective()?)));
    match checked {
        Ok((warnings, _)) => {
            warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
            let mut output = Output::new(false);
            let said = output.line("the configuration is right");
            finish(said, output)
        }
        Err(Problems(problems)) => {
            problems.iter().for_each(|problem| tell(problem));
            Ok(ExitCode::from(Exit::Usage as u8))
        }
    }
}

fn show(show: Show) -> anyhow::Result<ExitCode> {
    let settings = show.settings.layer().and_then(Layered::effective).map_err(crate::usage::Usage::from)?;
    let mut output = Output::new(show.json);
    let rows: Vec<Vec<String>> = settings.iter().map(row).collect();
    let result = output.table(&json!({ "settings": settings }), &["SETTING", "VALUE", "FROM"], &rows);
    finish(result, output)
}

fn row(setting: &Setting) -> Vec<String> {
    vec![setting.name.clone(), setting.value.clone().unwrap_or_default(), setting.origin.to_string()]
}

/// Prints a line on standard error.
fn tell(line: &str) {
    // If that fails, there is no other place to report it.
    let _ = writeln!(std::io::stderr(), "eventodb: {line}");
}
