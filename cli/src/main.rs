//! The `eventodb` command: arguments to one binary.
//!
//! [`usage::EXIT_CODES`] lists the exit codes. An error is printed in one line.

mod commands;
mod serve;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand as _};
use eventodb_store::Chain;

use self::commands::Command;
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
        return command.run(Cli::command()).await;
    }
    tokio::select! {
        outcome = command.run(Cli::command()) => outcome,
        Ok(()) = tokio::signal::ctrl_c() => Err(Refused::new(Exit::Interrupted, anyhow::anyhow!("interrupted")).into()),
    }
}

fn after_help() -> String {
    const SERVE: &str =
        "Without a command the server is started: `eventodb --port 8080` is `eventodb serve --port 8080`.";
    format!("{SERVE}\n\nExit codes: {}", usage::EXIT_CODES)
}

/// Parses the command line. Without a command it is `serve`.
fn parse() -> Result<Command, clap::Error> {
    let first = std::env::args_os().nth(1);
    if first.is_some_and(|first| first.to_str().is_some_and(Command::has_subcommand)) {
        return CommandFirst::try_parse().map(|line| line.command);
    }
    let cli = Cli::try_parse()?;
    Ok(cli.command.unwrap_or_else(|| Command::Serve(Box::new(cli.serve))))
}

/// Prints help and version as clap formats them, and an error in one line.
fn answer_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // An error means that the reader has closed the pipe.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    fail(&anyhow::Error::new(usage::of_clap(error, &Cli::command())))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "eventodb: {}", Chain(&**error));
    ExitCode::from(usage::exit_code(error))
}
