//! The list of a backup's files with their checksums, by which every byte can be checked.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::Path;

use eventodb_protocol::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::super::directory::create_private_file;
use super::{Error, Progress, Step, files, io, shown};

/// The name of its file.
pub(super) const FILE: &str = "manifest.json";

/// The form that this program writes and reads.
const FORMAT: u32 = 1;

/// Bytes that are hashed at once.
const BLOCK: usize = 1024 * 1024;

/// A backup's description of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The form of this description.
    pub format: u32,
    /// The version of the program that made the backup.
    pub version: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Its files.
    pub files: Vec<BackedUpFile>,
    /// The namespaces in them.
    pub namespaces: Vec<BackedUpNamespace>,
    /// Names of namespaces that are not in them, because they were deleted while the backup was taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<String>,
}

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackedUpFile {
    /// Its name in the directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, in hex digits.
    pub sha256: String,
}

/// A namespace of a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackedUpNamespace {
    /// Its name.
    pub namespace: String,
    /// The number that names its files.
    pub incarnation: i64,
    /// Global position of its last message; 0 if there is none.
    pub head: i64,
    /// How many messages it holds.
    pub messages: u64,
    /// Global positions of those that are damaged, in the store as in the backup; of several missing ones the first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<i64>,
}

impl Manifest {
    pub(super) fn new(created_at: Timestamp, namespaces: Vec<BackedUpNamespace>, files: Vec<BackedUpFile>) -> Self {
        let version = eventodb_protocol::VERSION.to_owned();
        Self { format: FORMAT, version, created_at, files, namespaces, deleted: Vec::new() }
    }

    /// Writes it into a directory, and onto the disk.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(super) fn write(&self, directory: &Path) -> Result<(), Error> {
        let path = directory.join(FILE);
        let text = serde_json::to_vec_pretty(self).expect("strings and numbers are JSON");
        let mut file = create_private_file(&path).map_err(io(&path))?;
        file.write_all(&text).and_then(|()| file.write_all(b"\n")).map_err(io(&path))?;
        file.sync_all().map_err(io(&path))
    }

    /// The manifest of a directory, if it has one.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Manifest`].
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, Error> {
        let path = directory.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(io(&path))?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| Error::Manifest(shown(&path), error))
    }
}

/// Reads a file from end to end and describes it.
///
/// # Errors
/// [`Error::File`].
pub(super) fn describe(path: &Path, progress: &mut Progress<'_>) -> Result<BackedUpFile, Error> {
    let name = files::name_of(path);
    let mut file = File::open(path).map_err(io(path))?;
    let of = file.metadata().map_err(io(path))?.len();
    let (mut hash, mut bytes) = (Sha256::new(), 0);
    let mut block = vec![0; BLOCK];
    loop {
        let read = file.read(&mut block).map_err(io(path))?;
        if read == 0 {
            break;
        }
        hash.update(&block[..read]);
        bytes += read as u64;
        progress(Step { what: &name, done: bytes, of });
    }
    let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(BackedUpFile { name, bytes, sha256 })
}
