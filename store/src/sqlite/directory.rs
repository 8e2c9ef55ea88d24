//! The data directory: only this user can read it, and only one server at a time writes to it.
//!
//! If the directory or its `lock` is removed or replaced under a running server, that server writes to open files that
//! nobody will find again. Therefore the server compares the directory that it took with the one that is there now, and
//! acknowledges nothing if they differ.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::fs::{AtFlags, StatxFlags};

use super::open_error::{OpenError, shown};
use super::paths::beside;

/// The mode of files: others have no rights.
const PRIVATE_FILE: u32 = 0o600;
/// The mode of directories: others have no rights.
const PRIVATE_DIRECTORY: u32 = 0o700;
/// The bits of a mode for others.
const OTHERS: u32 = 0o077;

/// The name of the file that a server holds locked.
pub(super) const LOCK: &str = "lock";

/// A data directory that this process has taken. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Directory {
    lock: Found,
    /// Held open, because the locks end when they are closed. The directory itself is locked as well, so that another
    /// server is kept out even if the file is removed.
    _locked: Vec<File>,
}

impl Directory {
    /// Takes a directory, and creates it if needed.
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

    /// Its `lock`, which tells other servers that the directory is taken.
    pub(super) fn lock(&self) -> &Found {
        &self.lock
    }
}

/// The file that is locked; makes it if it is missing. `None` if it is missing and the disk takes no file: then only
/// the directory's own lock is held.
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

/// The paths of open files, and which files were found there.
#[derive(Debug, Default)]
pub(super) struct Found {
    files: Vec<(PathBuf, FileId)>,
    is_lost: AtomicBool,
}

impl Found {
    /// The files at these paths now. A file that is missing now, as on a read-only disk, is not missed later.
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

    /// Whether the same files are still there. A change is logged.
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

/// The file at a path. Nothing else is asked for. On a Linux with multigrain timestamps (6.13), asking for a file's
/// times makes the next write to it change them, and a sync after each batch then takes a third longer.
fn file_id(path: &Path) -> io::Result<FileId> {
    let found = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO)?;
    Ok((found.stx_dev_major, found.stx_dev_minor, found.stx_ino))
}

/// Makes a directory, and the missing ones above it, for this user alone. All of them are synced when it returns,
/// because a file in a directory that its parent does not have on the disk is lost with the power.
fn create(path: &Path) -> io::Result<()> {
    let new = missing(path);
    DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(path)?;
    new.into_iter().try_for_each(|directory| File::open(parent(directory))?.sync_all())
}

/// The directory and those above it that are missing.
fn missing(path: &Path) -> Vec<&Path> {
    path.ancestors().take_while(|path| !path.as_os_str().is_empty() && !path.exists()).collect()
}

/// The directory of a path.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Creates a directory that only this user may list.
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

/// Gives a database the mode that only this user may read it, also one of an earlier version. A new one is made here,
/// because SQLite would make it readable for everybody. The files beside it get the mode of the database.
///
/// # Errors
/// The system's, if a new file cannot be made.
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
