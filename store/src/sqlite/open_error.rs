//! Why a store is not opened.

use std::path::Path;

use super::connection;

/// Why a data directory could not be opened: a line for the operator, with its causes behind it.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It cannot be created or written to.
    #[error("cannot use the data directory {0}")]
    Directory(Shown, #[source] std::io::Error),
    /// It is another program's.
    #[error("the data directory {directory} has {marker}, a file of {of}: name another directory")]
    Foreign {
        /// The directory.
        directory: Shown,
        /// A file in it.
        marker: &'static str,
        /// The program.
        of: &'static str,
    },
    /// Another server has it.
    #[error("the data directory {0} is in use by another server")]
    Locked(Shown),
    /// The registry is damaged, or newer than this program.
    #[error("cannot open {0}")]
    Registry(Shown, #[source] connection::Error),
    /// There are logs and no registry, so that the namespaces of the logs are not known.
    #[error("{0} is missing beside log files: put it back from a backup of this directory, or move the log files away")]
    NoRegistry(Shown),
    /// The registry does not know these logs, so that it would give their numbers to new namespaces.
    #[error(
        "the registry does not know {0}: put back the registry.db of the same moment, or move the log away and import \
         what it holds"
    )]
    UnknownLog(Shown),
    /// The system provides no threads.
    #[error("cannot start threads")]
    Threads(#[source] std::io::Error),
}

impl OpenError {
    /// Whether a newer version of this program is needed.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Registry(_, connection::Error::Newer { .. }))
    }
}

/// A path as text for people.
pub type Shown = String;

/// This path as [`Shown`].
pub(super) fn shown(path: &Path) -> Shown {
    path.display().to_string()
}
