//! The namespace `default` and its token, which is the administrator's.
//!
//! A generated token is shown once: on a terminal, or in a file that only its owner can read. The file is written
//! before the namespace is created. Otherwise a crash between the two could leave a namespace whose token nobody knows.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use eventodb_protocol::{DEFAULT_NAMESPACE, Right, Token};
use eventodb_store::model::NewNamespace;
use eventodb_store::sqlite::Location;
use eventodb_store::{Error, EventStore};

use super::config::{CLIENT_VARIABLE, Checked, GivenToken, Storage};
use super::logging::Format;
use crate::usage::{Exit, Refused, Usage, of_store};

/// The file for a generated token, in the data directory.
pub(super) const FILE: &str = "admin-token";

/// The administrator's token, as far as this start knows it.
pub(super) struct Administrator {
    /// The token, if it was given or has just been generated.
    pub(super) token: Option<Token>,
    /// Where it is shown, if it has just been generated.
    pub(super) shown: Option<Shown>,
}

/// Where a generated token is shown.
pub(super) enum Shown {
    /// On the terminal, in the banner.
    Terminal,
    /// In this file.
    File(PathBuf),
    /// Nowhere: in test mode without a file nobody needs the token.
    Nowhere,
}

/// Creates the namespace if it does not exist. If it exists, a given token must be a living administrator's.
///
/// # Errors
/// [`Usage`] if a given token is not an administrator's, or a generated token would be shown nowhere. [`Refused`] if the
/// store or the file fails.
pub(super) async fn prepare(store: &EventStore, checked: &Checked) -> anyhow::Result<Administrator> {
    if store.exists(DEFAULT_NAMESPACE).await.map_err(refused)? {
        return existing(store, &checked.token).await;
    }
    let (token, shown) = match &checked.token {
        GivenToken::Administrators(token) => (token.clone(), None),
        GivenToken::Clients(token) => {
            tracing::warn!(
                "{CLIENT_VARIABLE} becomes the administrator's token; it is the clients' variable, the server's is \
                 EVENTODB_SERVE_TOKEN"
            );
            (token.clone(), None)
        }
        GivenToken::None => (Token::generate(DEFAULT_NAMESPACE), Some(place(checked)?)),
    };
    if let Some(Shown::File(file)) = &shown {
        keep(file, &token)?;
    }
    let new = NewNamespace {
        name: DEFAULT_NAMESPACE.to_owned(),
        token_hash: token.hash(),
        description: "The administrator's namespace".to_owned(),
        metadata: "{}".to_owned(),
    };
    match store.create(new).await {
        Ok(_) => Ok(Administrator { token: Some(token), shown }),
        // The namespace may have been created, so that the file with its token is kept.
        Err(error @ Error::Unknown(_)) => Err(refused(error).into()),
        Err(error) => {
            if let Some(Shown::File(file)) = &shown {
                // The token opens nothing. If the file cannot be removed, it only stays there.
                let _ = std::fs::remove_file(file);
            }
            match error {
                // Another server has created the namespace.
                Error::NamespaceExists => existing(store, &checked.token).await,
                error => Err(refused(error).into()),
            }
        }
    }
}

/// The namespace exists: a given token must be a living administrator's.
async fn existing(store: &EventStore, given: &GivenToken) -> anyhow::Result<Administrator> {
    let token = match given {
        GivenToken::None => None,
        GivenToken::Administrators(token) if is_administrators(store, token).await? => Some(token.clone()),
        GivenToken::Administrators(_) => {
            return Err(Usage::new(format!(
                "--token is no living token of the namespace {DEFAULT_NAMESPACE} with the right admin: leave it out, or \
                 give the namespace a new one with `eventodb token rotate {DEFAULT_NAMESPACE}` while the server is stopped"
            ))
            .into());
        }
        GivenToken::Clients(token) if is_administrators(store, token).await? => {
            tracing::warn!(
                "the token was given by {CLIENT_VARIABLE}, which is the clients' variable; the server's is \
                 EVENTODB_SERVE_TOKEN, and none is needed"
            );
            Some(token.clone())
        }
        GivenToken::Clients(_) => {
            tracing::warn!("{CLIENT_VARIABLE} is not the administrator's token of this store and is ignored");
            None
        }
    };
    Ok(Administrator { token, shown: None })
}

/// Whether it is a living token of `default` with the right `admin`.
async fn is_administrators(store: &EventStore, token: &Token) -> anyhow::Result<bool> {
    let found = store.living_token(token).await.map_err(refused)?;
    Ok(token.namespace() == DEFAULT_NAMESPACE && found.is_some_and(|found| found.grant.rights().has(Right::Admin)))
}

fn refused(error: Error) -> Refused {
    Refused::new(of_store(&error), error)
}

/// Where a token that is generated now will be shown.
fn place(checked: &Checked) -> Result<Shown, Usage> {
    if let Some(file) = &checked.token_out {
        return Ok(Shown::File(file.clone()));
    }
    if checked.log_format == Format::Console && std::io::stdout().is_terminal() {
        return Ok(Shown::Terminal);
    }
    match &checked.storage {
        Storage::Sqlite(Location::Directory(directory), _) => Ok(Shown::File(directory.join(FILE))),
        _ if checked.test_mode => Ok(Shown::Nowhere),
        _ => Err(Usage::new(
            "the administrator's token would be made and shown nowhere: give --token-out FILE for it, or a token by \
             --token-file or --token",
        )),
    }
}

/// Writes the token into a file that only its owner can read, replaces an older file, and syncs it.
fn keep(file: &Path, token: &Token) -> Result<(), Refused> {
    let failed = |error: std::io::Error| {
        let what = format!("cannot write the administrator's token to {}", file.display());
        Refused::because(Exit::CannotCreate, what, error)
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // A server that was killed here may have left this file with another mode.
    let _ = std::fs::remove_file(&beside);
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    writeln!(opened, "{token}").and_then(|()| opened.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, file).map_err(failed)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// Replaces the token in the file of a data directory after a rotation, because the old token opens nothing any more.
///
/// # Errors
/// The file cannot be written.
pub(super) fn renew(directory: &Path, token: &Token) -> Result<(), Refused> {
    let file = directory.join(FILE);
    if file.exists() { keep(&file, token) } else { Ok(()) }
}
