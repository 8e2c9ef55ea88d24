//! The commands, one file each: an `Args` struct and `run`.

mod bench;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use crate::serve;

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the server (the default).
    Serve(Box<serve::Args>),
    /// Measure a server, or compare what was measured.
    Bench(Box<eventodb_bench::Args>),
    /// Print the version.
    Version,
}

impl Command {
    /// Runs it. `root` is the whole command line's description.
    pub(crate) async fn run(self, _root: clap::Command) -> anyhow::Result<ExitCode> {
        match self {
            Self::Serve(args) => serve::run(*args).await,
            Self::Bench(args) => bench::run(*args).await,
            Self::Version => {
                writeln!(std::io::stdout(), "{}", eventodb_schema::VERSION)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}
