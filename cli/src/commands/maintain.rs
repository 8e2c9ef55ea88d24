//! Functions for the commands that work on data directories.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use eventodb_store::sqlite::OpenError;
use eventodb_store::sqlite::maintenance::{Error, Progress, Step};

use super::output::{one_line, visible};
use super::progress;
use crate::serve;
use crate::usage::{Exit, Refused, Usage};

/// Whether --data-dir was typed. If it was not, the variables of a server on this machine say where its store is, and it may
/// not be in a data directory at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named(bool);

impl Named {
    /// The data directory, if its flag and variable have this value. `instead` says what to do about a store on PostgreSQL.
    ///
    /// # Errors
    /// The variables name a store that is in no data directory.
    pub(crate) fn directory(self, data_dir: PathBuf, instead: &str) -> Result<PathBuf, Usage> {
        if self.0 {
            return Ok(data_dir);
        }
        let refused = |variable: &str, store: &str| {
            Usage::new(format!(
                "{variable} names {store}, which has no data directory: {instead} To work on a directory all the same, name it \
                 with --data-dir"
            ))
        };
        let Some((variable, place)) = serve::database_of_variables(&data_dir)? else { return Ok(data_dir) };
        match place {
            serve::Place::Directory(directory) => Ok(directory),
            serve::Place::Memory => Err(refused(variable, "a store in memory")),
            serve::Place::Postgres => Err(refused(variable, "a store on PostgreSQL")),
        }
    }
}

impl clap::Args for Named {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl FromArgMatches for Named {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(matches.value_source("data_dir") == Some(ValueSource::CommandLine)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Runs long work on a thread of its own, and shows its progress on a terminal.
///
/// # Errors
/// The error of the work; [`Usage`] and [`Refused`] if the named directory cannot be used.
pub(crate) async fn look_after<T: Send + 'static>(
    work: impl FnOnce(&mut Progress<'_>) -> Result<T, Error> + Send + 'static,
) -> anyhow::Result<T> {
    let progress = progress::steps();
    let outcome = tokio::task::spawn_blocking(move || {
        let outcome = work(&mut |Step { what, done, of }| {
            progress.set_message(visible(what));
            progress.set_length(of.max(done));
            progress.set_position(done);
        });
        progress.finish_and_clear();
        outcome
    });
    match outcome.await.context("the work was cut off")? {
        Ok(done) => Ok(done),
        Err(error @ (Error::NoStore(_) | Error::NoNamespace(_))) => Err(Usage::of(error).into()),
        Err(error) if error.is_newer() => Err(Usage::of(error).into()),
        Err(error @ Error::NoRegistry(_)) => Err(Refused::new(Exit::Io, error).into()),
        Err(
            error @ (Error::OutputExists(_)
            | Error::Open(OpenError::Locked(_) | OpenError::Directory(..) | OpenError::Foreign { .. })),
        ) => Err(Refused::new(Exit::CannotCreate, error).into()),
        // An error of the system among its causes has no say in the exit code.
        Err(error) => Err(Refused::new(Exit::Failed, error).into()),
    }
}

/// Prints a line. If the reader of standard output has gone, the line is dropped.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", one_line(line)) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}
