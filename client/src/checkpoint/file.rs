//! A checkpoint in a file. A new file is written, synced, and renamed to the old one's name, so that after a crash the
//! file has the old position or the new one. A lock file keeps a second worker out.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use super::{CheckpointError, CheckpointStore};

/// A position in a file.
#[derive(Debug)]
pub struct FileCheckpoint {
    path: PathBuf,
    /// Held while a worker runs.
    lock: Option<File>,
}

impl FileCheckpoint {
    /// The checkpoint in the file `path`. Its directory must exist, the file need not. The files `<path>.lock` and
    /// `<path>.new` are used too.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), lock: None }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

#[async_trait]
impl CheckpointStore for FileCheckpoint {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        if self.lock.is_none() {
            self.lock = Some(lock(&self.beside(".lock"))?);
        }
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("cannot read", &self.path, error)),
        };
        let position = eventodb_protocol::typed::whole(.., 1_000)(text.trim());
        let position = position.map_err(|expected| failed("no position in", &self.path, expected))?;
        Ok(Some(position))
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        let (path, new) = (self.path.clone(), self.beside(".new"));
        tokio::task::spawn_blocking(move || {
            replace(&path, &new, position).map_err(|error| failed("cannot write", &path, error))
        })
        .await
        .map_err(|error| CheckpointError::failed("saving was cancelled", error))?
    }
}

/// Locks a file until it is closed, and creates it if it does not exist.
pub(super) fn lock(path: &Path) -> Result<File, CheckpointError> {
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(|error| failed("cannot open", path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CheckpointError::Taken(format!("{} is locked", path.display()))),
        Err(TryLockError::Error(error)) => Err(failed("cannot lock", path, error)),
    }
}

fn replace(path: &Path, new: &Path, position: i64) -> std::io::Result<()> {
    let mut file = File::create(new)?;
    writeln!(file, "{position}")?;
    file.sync_all()?;
    std::fs::rename(new, path)?;
    // The rename is durable once the directory is synced.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(what: &str, path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> CheckpointError {
    CheckpointError::failed(format!("{what} {}", path.display()), source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_position_survives_and_a_second_worker_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("here");
        let mut first = FileCheckpoint::new(&path);
        assert_eq!(first.load().await.expect("loaded"), None);
        first.save(41).await.expect("saved");
        first.save(42).await.expect("saved");
        assert!(matches!(FileCheckpoint::new(&path).load().await, Err(CheckpointError::Taken(_))));
        drop(first);
        assert_eq!(FileCheckpoint::new(&path).load().await.expect("loaded"), Some(42));
        std::fs::write(&path, "not a number").expect("written");
        assert!(matches!(FileCheckpoint::new(&path).load().await, Err(CheckpointError::Failed { .. })));
    }
}
