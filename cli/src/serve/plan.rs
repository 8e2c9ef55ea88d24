//! What `serve` would start with, for a command that looks at it and does not start it.

use std::path::PathBuf;
use std::sync::Arc;

use eventodb_server::Tls;
use eventodb_store::{postgres, sqlite};

use super::config::Storage;
use super::settings::{Examined, Problems, Settings};
use super::{files, memory};

/// Settings that a look at the host compares with the host.
pub(crate) struct Plan {
    /// Where messages are kept.
    pub(crate) storage: Stored,
    /// What is allowed but unsafe.
    pub(crate) warnings: Vec<String>,
    /// Connections of clients, at most.
    pub(crate) connections: usize,
    /// Files that the store needs beside them.
    pub(crate) files_of_the_store: u64,
    /// Bytes of memory that requests may take.
    pub(crate) memory_budget: usize,
    /// Bytes of memory that the process may use.
    pub(crate) usable_memory: usize,
    /// The certificate, and the name of its file.
    pub(crate) tls: Option<(Arc<Tls>, PathBuf)>,
    /// Files that hold secrets, with the flags that name them.
    pub(crate) secret_files: Vec<(&'static str, PathBuf)>,
}

/// Where messages are kept.
pub(crate) enum Stored {
    Memory,
    Directory {
        directory: PathBuf,
        /// Bytes that stay free.
        min_free: u64,
    },
    Postgres(Box<postgres::Settings>),
}

impl Settings {
    /// What a server would start with.
    ///
    /// # Errors
    /// What is wrong with the settings.
    pub(crate) fn plan(&self) -> Result<Plan, Problems> {
        let Examined { layered, checked, .. } = self.examined()?;
        let args = &layered.args;
        let warnings = layered.warnings.iter().cloned().chain(checked.warnings()).collect();
        let secret_files = [
            ("token-file", args.token_file.clone()),
            ("token-out", args.token_out.clone()),
            ("db-url-file", args.database.file()),
            ("listen-url-file", args.postgres.listen_url_file.clone()),
            ("tls-key", args.tls.tls_key.clone()),
        ];
        let mut secret_files: Vec<_> =
            secret_files.into_iter().filter_map(|(flag, file)| Some((flag, file?))).collect();
        let storage = match checked.storage {
            Storage::Sqlite(sqlite::Location::Memory, _) => Stored::Memory,
            Storage::Sqlite(sqlite::Location::Directory(directory), settings) => {
                secret_files.push(("data-dir", directory.join(super::administrator::FILE)));
                Stored::Directory { directory, min_free: settings.min_free }
            }
            Storage::Postgres(settings) => Stored::Postgres(settings),
        };
        Ok(Plan {
            storage,
            warnings,
            connections: checked.server.bounds.connections,
            files_of_the_store: files::OF_THE_STORE,
            memory_budget: checked.server.bounds.memory,
            usable_memory: memory::available(),
            tls: checked.server.tls.zip(args.tls.tls_cert.clone()),
            secret_files,
        })
    }
}
