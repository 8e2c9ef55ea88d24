//! Secrets in flags. They are never shown, and can be read from files, because every user can see a command line.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::usage::Usage;

/// The data directory, unless a flag or its variable names another.
pub(crate) const DATA_DIR: &str = "./data";

/// A value that is never shown.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) String);

impl std::str::FromStr for Secret {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Flags that name the database, for `serve` and for commands that open the store themselves.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Database {
    /// URL of the database: `postgres://…`, `sqlite://FILE` (below the data directory) or `sqlite://:memory:`. If left
    /// out, SQLite in the data directory, and with --test-mode in memory.
    #[arg(long, env = "EVENTODB_DB_URL", hide_env_values = true)]
    db_url: Option<Secret>,

    /// File that contains the URL, in place of --db-url, so that the list of processes does not show its password.
    #[arg(long, env = "EVENTODB_DB_URL_FILE", value_name = "FILE", conflicts_with = "db_url")]
    db_url_file: Option<PathBuf>,
}

impl Database {
    /// The file that has the URL, if one is named.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.db_url_file.clone()
    }

    /// The given URL, if any.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(crate) fn url(&self) -> Result<Option<String>, Usage> {
        match &self.db_url_file {
            Some(file) => read("db-url-file", file).map(Some),
            None => Ok(self.db_url.as_ref().map(|Secret(url)| url.clone())),
        }
    }
}

/// The URL of the database by the variables alone, and the variable that it comes from.
///
/// # Errors
/// The file of the variable cannot be read.
pub(super) fn database_of_variables() -> Result<Option<(&'static str, String)>, Usage> {
    const URL: &str = "EVENTODB_DB_URL";
    const FILE: &str = "EVENTODB_DB_URL_FILE";
    if let Some(file) = std::env::var_os(FILE) {
        return read("db-url-file", Path::new(&file)).map(|url| Some((FILE, url)));
    }
    Ok(std::env::var_os(URL).map(|url| (URL, url.to_string_lossy().into_owned())))
}

/// The name of a file that cannot be read. It is not shown if it may be the secret itself.
fn shown(file: &Path) -> String {
    let name = file.to_string_lossy();
    match name.contains(['@', ':']) || name.contains("ns_") {
        true => "a file of that name, which looks like a URL or a token".to_owned(),
        false => format!("{file:?}"),
    }
}

/// The first line of the file that `flag` names.
///
/// # Errors
/// The file cannot be read, or its first line is empty.
pub(crate) fn read(flag: &str, file: &Path) -> Result<String, Usage> {
    /// More bytes than any URL or token has.
    const MOST: u64 = 64 * 1024;
    let text = beginning(flag, file, MOST)?;
    match text.lines().next().map(str::trim) {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Usage::at(flag, anyhow::anyhow!("{file:?} has nothing in its first line"))),
    }
}

/// At most `most` bytes of the file that `flag` names, without the byte order mark that some editors and shells begin a file
/// with. It cannot be seen, and as a part of a token it would make another token of it.
fn beginning(flag: &str, file: &Path, most: u64) -> Result<String, Usage> {
    let mut text = String::new();
    let opened = File::open(file).and_then(|opened| opened.take(most).read_to_string(&mut text));
    opened.map_err(|error| unreadable(flag, file, error))?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// All of the file that `flag` names.
///
/// # Errors
/// It cannot be read, or is larger than any file of settings.
pub(super) fn whole(flag: &str, file: &Path) -> Result<String, Usage> {
    const MOST: u64 = 1024 * 1024;
    let text = beginning(flag, file, MOST + 1)?;
    match text.len() as u64 > MOST {
        true => Err(Usage::at(flag, anyhow::anyhow!("{file:?} has more than {MOST} bytes"))),
        false => Ok(text),
    }
}

/// Whether every user of the machine may read a file. A group may: services get their secrets that way.
pub(crate) fn is_open_to_all(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

/// Whether the file that `flag` names can be opened. It is asked before the file's reader is, whose errors show the name.
///
/// # Errors
/// It cannot be opened.
pub(super) fn readable(flag: &str, file: &Path) -> Result<(), Usage> {
    File::open(file).map(drop).map_err(|error| unreadable(flag, file, error))
}

fn unreadable(flag: &str, file: &Path, error: std::io::Error) -> Usage {
    Usage::at(flag, anyhow::Error::new(error).context(format!("cannot read {}", shown(file))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use eventodb_store::Chain;

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("secret");
        for (content, secret) in
            [("\u{feff}s3cret\r\n", "s3cret"), ("\u{feff} s3cret", "s3cret"), ("s3\u{feff}", "s3\u{feff}")]
        {
            std::fs::write(&file, content).expect("written");
            assert_eq!(read("token-file", &file).expect("it has a line"), secret, "{content:?}");
        }
        std::fs::write(&file, "\u{feff}\n").expect("written");
        read("token-file", &file).expect_err("there is nothing in it");
    }

    #[test]
    fn a_secret_in_place_of_a_file_is_not_shown() {
        for secret in ["postgres://me:s3cret@localhost/events", "postgres:/me:s3cret@localhost", "ns_ZGVmYXVsdA_s3cret"]
        {
            let read = read("db-url-file", Path::new(secret)).expect_err("there is no such file");
            let opened = readable("tls-cert", Path::new(secret)).expect_err("there is no such file");
            for refused in [read, opened] {
                assert!(!Chain(&refused).to_string().contains("s3cret"), "{refused}");
            }
        }
        let refused = read("db-url-file", Path::new("/no/such/file")).expect_err("there is no such file");
        assert!(Chain(&refused).to_string().contains("/no/such/file"), "{refused}");
    }
}
