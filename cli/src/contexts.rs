//! Contexts: servers and tokens under names, in a file that only its owner may read.
//!
//! A context counts as a whole: its token is never sent to a server that a flag or a variable names.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use eventodb_protocol::shown;
use serde::{Deserialize, Serialize};

use crate::usage::{Exit, Refused, Usage};

/// The file's name below the directory of this program's settings.
const FILE: &str = "eventodb/contexts.json";

/// A server, and what opens it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Context {
    /// Its URL.
    pub(crate) url: String,
    /// The token itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// The file that has the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The authorities that are trusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<PathBuf>,
    /// The client's own certificate,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cert_file: Option<PathBuf>,
    /// and its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_file: Option<PathBuf>,
}

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one that is used if none is named.
    #[serde(default)]
    pub(crate) current: Option<String>,
    /// All of them, by name.
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

impl Contexts {
    /// Reads the file. Without a file there are none.
    ///
    /// # Errors
    /// It cannot be read, or is no such file.
    pub(crate) fn read() -> Result<Self, Refused> {
        let Some(path) = path() else { return Ok(Self::default()) };
        let text = match fs::read(&path) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(Self::default());
            }
            text => {
                text.map_err(|error| Refused::because(Exit::Io, format!("cannot read {}", path.display()), error))?
            }
        };
        let wrong =
            |error| Usage::of(anyhow::Error::new(error).context(format!("{} holds no contexts", path.display())));
        Ok(serde_json::from_slice(&text).map_err(wrong)?)
    }

    /// Writes the file, readable by its owner only. It is replaced as a whole.
    ///
    /// # Errors
    /// There is no place for it, or it cannot be written.
    pub(crate) fn write(&self) -> Result<(), Refused> {
        let path = path().ok_or_else(|| Usage::new("HOME or XDG_CONFIG_HOME must say where the contexts are kept"))?;
        let text = serde_json::to_vec_pretty(self).expect("its keys are strings");
        replace(&path, &text)
            .map_err(|error| Refused::because(Exit::CannotCreate, format!("cannot write {}", path.display()), error))
    }

    /// The context of this name, or the current one, if there is one.
    ///
    /// # Errors
    /// There is none of this name.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Option<&Context>, Usage> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        self.contexts.get(name).map(Some).ok_or_else(|| self.unknown(name))
    }

    /// The error for a name that no context has.
    pub(crate) fn unknown(&self, name: &str) -> Usage {
        let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
        let hint = match eventodb_protocol::spelling::nearest(name, &known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => "`eventodb context add` makes one".to_owned(),
        };
        Usage::of(anyhow!("there is no context {:?}; {hint}", shown::name(name)))
    }
}

/// Where the contexts are kept; `None` if the environment names no place.
fn path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let directory = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(directory.join(FILE))
}

/// Puts a new file in the place of another. `tempfile` makes it with mode 0600.
fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().expect("the file is in a directory of this program");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// The absolute path of a file, so that a context means the same in every directory.
pub(crate) fn full(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))
}
