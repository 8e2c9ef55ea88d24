//! The namespace `default` and its token, which is the administrator's.
//!
//! A token that is made here is shown once: on a terminal, or in a file for its owner alone. The file is written before
//! the namespace is created, so that no namespace has a token that nobody knows.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use eventodb_protocol::{DEFAULT_NAMESPACE, Token};
use eventodb_store::backend::NewNamespace;
use eventodb_store::backend::sqlite::Location;
use eventodb_store::{Error, EventStore};

use super::config::{CLIENT_VARIABLE, Checked, GivenToken, Storage};
use super::logging::Format;
use crate::usage::{Exit, Refused, Usage, of_store};

/// The file of a token that was made, in the data directory.
const FILE: &str = "admin-token";

/// What is known about the administrator's token.
pub(super) struct Administrator {
    /// The token, where it was given or has just been made.
    pub(super) token: Option<Token>,
    /// Where it is shown, if it has just been made.
    pub(super) shown: Option<Shown>,
}

/// Where a token that was made is shown.
pub(super) enum Shown {
    /// On the terminal that the banner goes to.
    Terminal,
    /// In this file.
    File(PathBuf),
    /// Nowhere: without a file a server in test mode is used without it.
    Nowhere,
}

/// Creates the namespace where it is missing; otherwise a given token must be the stored one.
///
/// # Errors
/// [`Usage`] where it is not, and says how to rotate it; [`Refused`] where a token would be made and shown nowhere.
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
        // It may be there, and its token would be known to nobody.
        Err(error @ Error::Unknown(_)) => Err(refused(error).into()),
        Err(error) => {
            if let Some(Shown::File(file)) = &shown {
                // It opens nothing. That it cannot be removed is told by nothing but its presence.
                let _ = std::fs::remove_file(file);
            }
            match error {
                // Another server was first.
                Error::NamespaceExists => existing(store, &checked.token).await,
                error => Err(refused(error).into()),
            }
        }
    }
}

/// The namespace is there: a given token must be its own.
async fn existing(store: &EventStore, given: &GivenToken) -> anyhow::Result<Administrator> {
    let token = match given {
        GivenToken::None => None,
        GivenToken::Administrators(token) if store.has_token(token).await.map_err(refused)? => Some(token.clone()),
        GivenToken::Administrators(_) => {
            return Err(Usage::new(format!(
                "--token is not the stored token of the namespace {DEFAULT_NAMESPACE}: leave it out, or give the \
                 namespace a new one with `eventodb token rotate {DEFAULT_NAMESPACE}` while the server is stopped"
            ))
            .into());
        }
        GivenToken::Clients(token) if store.has_token(token).await.map_err(refused)? => {
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

fn refused(error: Error) -> Refused {
    Refused::new(of_store(&error), error)
}

/// Where a token is shown that is made now.
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

/// Writes the token into a file for its owner alone, in place of whatever was there, and onto the disk.
fn keep(file: &Path, token: &Token) -> Result<(), Refused> {
    let failed = |error: std::io::Error| {
        let what = format!("cannot write the administrator's token to {}", file.display());
        Refused::because(Exit::CannotCreate, what, error)
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    // What a server left that was killed here has perhaps another mode.
    let _ = std::fs::remove_file(&beside);
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(failed)?;
    writeln!(opened, "{token}").and_then(|()| opened.sync_all()).map_err(failed)?;
    std::fs::rename(&beside, file).map_err(failed)?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}

/// After a rotation: the file of a data directory must not go on naming a token that opens nothing.
///
/// # Errors
/// It cannot be written.
pub(super) fn renew(directory: &Path, token: &Token) -> Result<(), Refused> {
    let file = directory.join(FILE);
    if file.exists() { keep(&file, token) } else { Ok(()) }
}
