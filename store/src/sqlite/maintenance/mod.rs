//! Looking after data directories: [`backup()`] of a store in use, [`verify()`] and [`repair()`] of one that is not.
//!
//! All functions block, and report their progress to a callback.
//!
//! | file | what it is for |
//! |---|---|
//! | `backup` | copying a store that a server is writing to |
//! | `manifest` | the list of a backup's files |
//! | `verify` | a report on every file |
//! | `check_log`, `check_index` | checking the content of one file |
//! | `repair` | making damaged files anew |
//! | `rewrite` | saving the readable messages of a damaged log |
//! | `give_up` | putting a marker in the place of a damaged message |
//! | `renew` | a copy of a log around pages that cannot be read |
//! | `copied` | messages that are copied, damaged ones as they are |
//! | `raw_row` | a damaged message with the bytes that it has |
//! | `look` | a look that changes nothing |
//! | `files` | opening, naming and syncing files |

mod backup;
mod check_index;
mod check_log;
mod copied;
mod files;
mod give_up;
mod look;
mod manifest;
mod raw_row;
mod renew;
mod repair;
mod rewrite;
mod verify;

use std::path::{Path, PathBuf};

use super::connection;
use super::open_error::{OpenError, Shown, shown};

pub use backup::backup;
pub use give_up::give_up;
pub use look::{NamespaceLook, look};
pub use manifest::{BackedUpFile, BackedUpNamespace, Manifest};
pub use repair::{Outcome, Permissions, repair};
pub use verify::{FileReport, Report, verify};

/// Why the work on a data directory failed: a line for the operator, with its causes behind it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used, or a server uses it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no registry in the directory.
    #[error("there is no store in {0}")]
    NoStore(Shown),
    /// There are logs and no registry.
    #[error("{0} is missing beside log files: put it back from a backup of this directory")]
    NoRegistry(Shown),
    /// A log has another identity than its namespace.
    #[error("{0} is the log of another namespace")]
    ForeignLog(Shown),
    /// There is no namespace of that name.
    #[error("there is no namespace {0}")]
    NoNamespace(String),
    /// A namespace was replaced whenever it was being copied.
    #[error(
        "namespace {0} was replaced again and again while it was copied: try it again, or while no import replaces it"
    )]
    ReplacedAgain(String),
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
    #[error("cannot use {0}")]
    Database(Shown, #[source] connection::Error),
    /// The system cannot read or write a file.
    #[error("cannot use {0}")]
    File(Shown, #[source] std::io::Error),
    /// A manifest that cannot be read.
    #[error("{0} is no manifest of a backup")]
    Manifest(Shown, #[source] serde_json::Error),
}

impl Error {
    /// Whether a newer version of this program is needed.
    pub fn is_newer(&self) -> bool {
        match self {
            Self::Open(error) => error.is_newer(),
            error => matches!(error, Self::Database(_, connection::Error::Newer { .. })),
        }
    }
}

/// How far a long step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// The namespace or file that is worked on.
    pub what: &'a str,
    /// Messages, or bytes, that are done.
    pub done: u64,
    /// About how many there are.
    pub of: u64,
}

/// Called now and then with the progress of a step.
pub type Progress<'a> = dyn FnMut(Step<'_>) + 'a;

/// Number of messages between two reports of progress.
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

fn database(file: &Path) -> impl Fn(rusqlite::Error) -> Error {
    move |error| Error::Database(shown(file), connection::Error::Sqlite(error))
}

fn io(file: &Path) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::File(shown(file), error)
}
