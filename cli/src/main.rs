//! The `eventodb` command: arguments to one binary.
//!
//! Exit codes stand in [`usage::EXIT_CODES`]; what went wrong is told in one line.

mod commands;
mod serve;
mod usage;

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser, Subcommand as _};

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
    serve: serve::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

/// The same where a command stands first, which knows nothing of the flags and variables of `serve`.
#[derive(Debug, Parser)]
#[command(name = "eventodb")]
struct CommandFirst {
    #[command(subcommand)]
    command: Command,
}

/// Requests allocate on one thread and free on another, which it takes better than the system's.
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

/// Runs a command. One that does not end itself when Ctrl-C comes is broken off by it.
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

/// What is asked for; the server where no command is named.
fn parse() -> Result<Command, clap::Error> {
    let first = std::env::args_os().nth(1);
    if first.is_some_and(|first| first.to_str().is_some_and(Command::has_subcommand)) {
        return CommandFirst::try_parse().map(|line| line.command);
    }
    let cli = Cli::try_parse()?;
    Ok(cli.command.unwrap_or_else(|| Command::Serve(Box::new(cli.serve))))
}

/// Help and version are printed as clap has them; an error is one line.
fn answer_usage(error: &clap::Error) -> ExitCode {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // Whoever closed the pipe does not want to read on.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    fail(&anyhow::Error::new(usage::of_clap(error, &Cli::command())))
}

fn fail(error: &anyhow::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "eventodb: {error:#}");
    ExitCode::from(usage::exit_code(error))
}
