//! Functions for the commands that work on data directories.

use std::io::Write as _;

use anyhow::Context as _;
use eventodb_store::sqlite::OpenError;
use eventodb_store::sqlite::maintenance::{Error, Progress, Step};

use super::output::{one_line, visible};
use super::progress;
use crate::usage::{Exit, Refused, Usage};

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
        Err(error @ Error::NoRegistry(_)) => Err(Refused::new(Exit::Io, error).into()),
        Err(error @ (Error::OutputExists(_) | Error::Open(OpenError::Locked(_) | OpenError::Directory(..)))) => {
            Err(Refused::new(Exit::CannotCreate, error).into())
        }
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
