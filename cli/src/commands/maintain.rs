//! What the commands that look after data directories share.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eventodb_store::backend::sqlite::OpenError;
use eventodb_store::backend::sqlite::maintenance::{Error, Progress, Step};

use crate::usage::{Exit, Refused, Usage};

/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(200);

/// Runs long work on a thread of its own, and shows how far it is where a terminal looks.
///
/// # Errors
/// The work's; [`Usage`] and [`Refused`] where the caller named a directory that cannot be used.
pub(crate) async fn look_after<T: Send + 'static>(
    work: impl FnOnce(&mut Progress<'_>) -> Result<T, Error> + Send + 'static,
) -> anyhow::Result<T> {
    let outcome = tokio::task::spawn_blocking(move || {
        let watched = std::io::stderr().is_terminal();
        let mut shown = Instant::now();
        let outcome = work(&mut |step| {
            if watched && shown.elapsed() >= SHOW_EVERY {
                shown = Instant::now();
                show(step);
            }
        });
        if watched {
            clear();
        }
        outcome
    });
    match outcome.await.context("the work was cut off")? {
        Ok(done) => Ok(done),
        Err(error @ (Error::NoStore(_) | Error::NoNamespace(_))) => Err(Usage::of(error).into()),
        Err(error @ Error::NoRegistry(_)) => Err(Refused::new(Exit::Io, error).into()),
        Err(error @ (Error::OutputExists(_) | Error::Open(OpenError::Locked(_) | OpenError::Directory(..)))) => {
            Err(Refused::new(Exit::CannotCreate, error).into())
        }
        Err(error) => Err(error.into()),
    }
}

fn show(Step { what, done, of }: Step<'_>) {
    let of = of.max(done);
    // Carriage return and "erase to end of line" of ECMA-48.
    let _ = write!(std::io::stderr(), "\r\x1b[K{what}: {done} of {of}");
}

fn clear() {
    let _ = write!(std::io::stderr(), "\r\x1b[K");
}

/// Prints a line. Whoever closed standard output does not want to read it.
///
/// # Errors
/// Where standard output cannot be written to.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("cannot print"),
        _ => Ok(()),
    }
}
