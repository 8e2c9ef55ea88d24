//! The `eventodb` command: arguments to one binary.
//!
//! [`usage::EXIT_CODES`] lists the exit codes. An error is printed in one line.

mod commands;
mod contexts;
mod help;
mod serve;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches, Parser, Subcommand as _};
use eventodb_store::Chain;

use self::commands::{Command, one_line};
use self::usage::{Exit, Refused};

/// Event store over HTTP, on SQLite or PostgreSQL.
#[derive(Debug, Parser)]
#[command(
    name = "eventodb",
    version,
    args_conflicts_with_subcommands = true,
    after_help = after_help()
)]
struct Cli {
    #[command(flatten)]
    serve: serve::Settings,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The command line if it begins with a command: the flags and variables of `serve` are then unknown.
#[derive(Debug, Parser)]
#[command(name = "eventodb")]
struct CommandFirst {
    #[command(subcommand)]
    command: Command,
}

/// Requests allocate on one thread and free on another. mimalloc is faster at this than the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match parse() {
        Ok(command) => command,
        Err(error) => return answer_usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start")),
    };
    let outcome = runtime.block_on(until_interrupted(command));
    runtime.shutdown_background();
    outcome.unwrap_or_else(|error| fail(&error))
}

/// Runs a command. Ctrl-C aborts a command that does not handle it itself.
async fn until_interrupted(command: Command) -> anyhow::Result<ExitCode> {
    if command.ends_on_signal() {
        return command.run(root()).await;
    }
    tokio::select! {
        outcome = command.run(root()) => outcome,
        Ok(()) = tokio::signal::ctrl_c() => Err(Refused::new(Exit::Interrupted, anyhow::anyhow!("interrupted")).into()),
    }
}

fn after_help() -> String {
    const SERVE: &str = "Without a command the server is started: `eventodb --port 8080` is `eventodb serve --port 8080`. \
        `eventodb serve --help` has its flags, and `eventodb COMMAND --help` those of a command, with examples.";
    format!("{SERVE}\n\nExit codes: {}", usage::EXIT_CODES)
}

/// The whole command line, with its help.
fn root() -> clap::Command {
    help::dressed(Cli::command())
}

fn parsed<T: FromArgMatches>(mut command: clap::Command) -> Result<T, clap::Error> {
    let mut matches = command.try_get_matches_from_mut(std::env::args_os())?;
    T::from_arg_matches_mut(&mut matches).map_err(|error| error.format(&mut command))
}

/// Parses the command line. Without a command it is `serve`.
fn parse() -> Result<Command, clap::Error> {
    let first = std::env::args_os().nth(1);
    if first.is_some_and(|first| first.to_str().is_some_and(Command::has_subcommand)) {
        return parsed::<CommandFirst>(help::dressed(CommandFirst::command())).map(|line| line.command);
    }
    let cli: Cli = parsed(root())?;
    Ok(cli.command.unwrap_or_else(|| Command::Serve(Box::new(cli.serve))))
}

/// Prints help and version as clap formats them, and an error in one line.
fn answer_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // An error means that the reader has closed the pipe.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    fail(&anyhow::Error::new(usage::of_clap(error, &root())))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "eventodb: {}", one_line(&Chain(&**error).to_string()));
    ExitCode::from(usage::exit_code(error))
}
