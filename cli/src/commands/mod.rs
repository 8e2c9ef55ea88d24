//! The commands, one file each: an `Args` struct and `run`.

mod backup;
mod maintain;
mod repair;
mod token;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::serve;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (the default).
    Serve(Box<serve::Args>),
    /// Copy the data directory of a server on SQLite, running or not.
    Backup(backup::Args),
    /// Check a backup, or the data directory of a stopped server.
    Verify(verify::Args),
    /// Make a damaged data directory usable again; the server must be stopped.
    Repair(repair::Args),
    /// Tokens of namespaces, on the store itself; a server on SQLite must be stopped.
    Token(token::Args),
    /// Print the version.
    Version,
}

impl Command {
    /// Runs it. `root` is the whole command line's description.
    pub(crate) async fn run(self, _root: clap::Command) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(args) => serve::run(*args).await,
            Self::Backup(args) => backup::run(args).await,
            Self::Verify(args) => verify::run(args).await,
            Self::Repair(args) => repair::run(args).await,
            Self::Token(args) => token::run(args).await,
            Self::Version => {
                writeln!(std::io::stdout(), "{}", eventodb_schema::VERSION)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
