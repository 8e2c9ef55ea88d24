//! The data directory: made so that nobody else reads it, and taken so that nobody else writes to it.
//!
//! Whoever removes or replaces the directory, or its `lock`, under a running server leaves that server with open
//! files that nobody will ever find again. Therefore the server holds what it took against what stands there now,
//! and acknowledges nothing where the two differ.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::fs::{AtFlags, StatxFlags};

use super::paths::beside;
use super::{OpenError, shown};

/// What others may do with a file: nothing.
const PRIVATE_FILE: u32 = 0o600;
/// What others may do with a directory: nothing.
const PRIVATE_DIRECTORY: u32 = 0o700;
/// The bits of a mode that others have.
const OTHERS: u32 = 0o077;

/// The name of the file that a server holds locked.
const LOCK: &str = "lock";

/// A data directory that this process has taken. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Directory {
    lock: Found,
    /// Held open: the locks end with them. The directory itself is locked as well, so that whoever removes the
    /// file lets nobody in.
    _locked: Vec<File>,
}

impl Directory {
    /// Takes a directory, and creates it where needed.
    ///
    /// # Errors
    /// [`OpenError::Directory`], [`OpenError::Locked`].
    pub(super) fn take(path: &Path) -> Result<Self, OpenError> {
        let failed = |error| OpenError::Directory(shown(path), error);
        create(path).map_err(failed)?;
        let lock_path = path.join(LOCK);
        let directory = File::open(path).map_err(failed)?;
        let lock = open_lock(&lock_path).map_err(failed)?;
        let locked: Vec<File> = [Some(directory), lock].into_iter().flatten().collect();
        for file in &locked {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(shown(path))),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Ok(Self { lock: Found::at(vec![lock_path]).map_err(failed)?, _locked: locked })
    }

    /// Its `lock`, by which other servers know that it is taken.
    pub(super) fn lock(&self) -> &Found {
        &self.lock
    }
}

/// The file that is locked, made where it is missing. `None` where it is missing and the disk takes no file: the
/// directory's own lock has to do.
fn open_lock(path: &Path) -> io::Result<Option<File>> {
    let made = File::options().create(true).truncate(false).write(true).mode(PRIVATE_FILE).open(path);
    let Err(error) = made else { return made.map(Some) };
    if !matches!(
        error.kind(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied | ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    ) {
        return Err(error);
    }
    match File::open(path) {
        Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(None),
        Err(_) => Err(error),
        Ok(file) => Ok(Some(file)),
    }
}

/// Files that are open, and the paths at which they were found.
#[derive(Debug, Default)]
pub(super) struct Found {
    files: Vec<(PathBuf, FileId)>,
    is_lost: AtomicBool,
}

impl Found {
    /// What is at these paths now. A file that a read-only disk does not have is not missed later.
    ///
    /// # Errors
    /// The system's.
    fn at(paths: Vec<PathBuf>) -> io::Result<Self> {
        let mut files = Vec::new();
        for path in paths {
            match file_id(&path) {
                Ok(id) => files.push((path, id)),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self { files, is_lost: AtomicBool::new(false) })
    }

    /// A database's file and its write-ahead log.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn database(file: &Path) -> io::Result<Self> {
        Self::at(vec![file.to_owned(), beside(file, "-wal")])
    }

    /// Whether the same files are still there. Says so where that has changed.
    pub(super) fn is_there(&self) -> bool {
        let is_changed = |(path, found): &&(PathBuf, _)| !file_id(path).is_ok_and(|id| id == *found);
        let changed = self.files.iter().find(is_changed);
        match (changed, self.is_lost.swap(changed.is_some(), SeqCst)) {
            (Some((path, _)), false) => tracing::error!(
                file = %path.display(),
                "a file was removed or replaced while it was in use: no more writes; put it back, or restart the server"
            ),
            (None, true) => tracing::info!("files that were missing are there again"),
            _ => {}
        }
        changed.is_none()
    }

    /// Whether they were gone when they were last looked for.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(SeqCst)
    }
}

/// A file's device, as its major and minor number, and its number there.
type FileId = (u32, u32, u64);

/// Which file is at a path. Only that is asked for: on a Linux with multigrain timestamps (6.13), whoever asks for a
/// file's times makes the next write to it change them, and a sync after each batch takes a third longer for that.
fn file_id(path: &Path) -> io::Result<FileId> {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// Makes a directory, and those above it that are missing, for this user alone. All of them are on the disk when it
/// returns: what is synced in a directory that its parent does not know is lost with the power.
fn create(path: &Path) -> io::Result<()> {
    let new = missing(path);
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
    new.into_iter().try_for_each(|directory| File::open(parent(directory))?.sync_all())
}

/// The directory and those above it, as far as they are not there.
fn missing(path: &Path) -> Vec<&Path> {
    path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect()
}

/// The directory in which something is.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory that only this user may look into.
///
/// # Errors
/// The system's.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(PRIVATE_DIRECTORY).create(path)
}

/// Creates or empties a file that only this user may read.
///
/// # Errors
/// The system's.
pub(super) fn create_private_file(path: &Path) -> io::Result<File> {
    File::options().create(true).write(true).truncate(true).mode(PRIVATE_FILE).open(path)
}

/// Sees to it that a database is this user's alone, also one of an earlier version. A new one is made here, because
/// SQLite makes it for everybody to read; the files beside it get the rights of the database.
///
/// # Errors
/// The system's, where a new file cannot be made.
pub(super) fn keep_private(file: &Path) -> io::Result<()> {
    if !file.exists() {
        return match File::options().create_new(true).write(true).mode(PRIVATE_FILE).open(file) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
    }
    for file in [file.to_owned(), beside(file, "-wal"), beside(file, "-shm")] {
        let Ok(metadata) = fs::metadata(&file) else { continue };
        if metadata.mode() & OTHERS != 0
            && let Err(error) = fs::set_permissions(&file, fs::Permissions::from_mode(PRIVATE_FILE))
        {
            tracing::warn!(file = %file.display(), %error, "others may read this file, and that cannot be changed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_new_directory_is_noted_in_its_parent() {
        let there = tempfile::tempdir().expect("a temporary folder");
        let path = there.path().join("a/b");
        assert_eq!(missing(&path), [path.as_path(), &there.path().join("a")]);
        create(&path).expect("the folder is ours");
        assert_eq!(missing(&path), Vec::<&Path>::new());
        assert_eq!(missing(Path::new("none-such")), [Path::new("none-such")]);
        assert_eq!(parent(Path::new("none-such")), Path::new("."));
    }
}
