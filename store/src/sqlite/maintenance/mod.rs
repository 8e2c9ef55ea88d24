//! Looking after data directories: [`backup()`] of a store in use, [`verify()`] and [`repair()`] of one
//! that is not.
//!
//! All of it blocks, and tells a callback how far it is.
//!
//! | file | what stands there |
//! |---|---|
//! | `backup` | copying a store that a server is writing to |
//! | `manifest` | what a backup says about itself |
//! | `verify` | a report on every file |
//! | `check_log`, `check_index` | what must hold in one file |
//! | `repair` | which files are made anew |
//! | `rewrite` | saving what can be read of a damaged log |
//! | `give_up` | putting a marker in the place of a damaged message |
//! | `renew` | a copy of a log around pages that cannot be read |
//! | `copied` | messages that are copied, damaged ones as they are |
//! | `raw_row` | a damaged message with the bytes that it has |
//! | `files` | opening, naming and syncing files |

mod backup;
mod check_index;
mod check_log;
mod copied;
mod files;
mod give_up;
mod manifest;
mod raw_row;
mod renew;
mod repair;
mod rewrite;
mod verify;

use std::path::{Path, PathBuf};

use super::{OpenError, Shown, connection};

pub use backup::backup;
pub use give_up::give_up;
pub use manifest::{BackedUpFile, BackedUpNamespace, Manifest};
pub use repair::{Outcome, Permissions, repair};
pub use verify::{FileReport, Report, verify};

/// Why a data directory could not be looked after; each in one line for the person who asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used, or a server uses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no registry in the directory.
    #[error("there is no store in {0}")]
    NoStore(Shown),
    /// Logs are there and the registry is not.
    #[error("{0} is missing beside log files: put it back from a backup of this directory")]
    NoRegistry(Shown),
    /// A log has another identity than its namespace.
    #[error("{0} is the log of another namespace")]
    ForeignLog(Shown),
    /// There is no namespace of that name.
    #[error("there is no namespace {0}")]
    NoNamespace(String),
    /// The message that is to be given up is sound, or there is none.
    #[error("the message at global position {0} cannot be given up: {1}")]
    NotDamaged(i64, &'static str),
    /// The output is there already.
    #[error("{0} exists and is not empty: name a new directory")]
    OutputExists(Shown),
    /// A log that should hold messages is not there.
    #[error("{0} is missing")]
    MissingLog(Shown),
    /// SQLite cannot read or write a file.
    #[error("{0}: {1}")]
    Database(Shown, connection::Error),
    /// The system cannot read or write a file.
    #[error("{0}: {1}")]
    File(Shown, std::io::Error),
    /// A manifest that says nothing.
    #[error("{0} is no manifest of a backup: {1}")]
    Manifest(Shown, serde_json::Error),
}

/// How far a long step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// What is looked at: a namespace or a file.
    pub what: &'a str,
    /// Messages, or bytes, that are done.
    pub done: u64,
    /// How many there are, about.
    pub of: u64,
}

/// Told now and then how far a step is.
pub type Progress<'a> = dyn FnMut(Step<'_>) + 'a;

/// After how many messages progress is told again.
const TELL_EVERY: u64 = 4096;

/// The registry's file in a directory.
fn registry_of(directory: &Path) -> Result<PathBuf, Error> {
    let path = files::registry_path(directory);
    if path.exists() {
        return Ok(path);
    }
    match super::paths::logs_in(directory) {
        Ok(logs) if !logs.is_empty() => Err(Error::NoRegistry(shown(&path))),
        _ => Err(Error::NoStore(shown(directory))),
    }
}

fn shown(path: &Path) -> Shown {
    super::shown(path)
}

fn database(file: &Path) -> impl Fn(rusqlite::Error) -> Error {
    move |error| Error::Database(shown(file), connection::Error::Sqlite(error))
}

fn io(file: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::File(shown(file), error)
}
