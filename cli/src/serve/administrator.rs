//! The namespace `default` and its token, which is the administrator's.

use eventodb_schema::{DEFAULT_NAMESPACE, Token};
use eventodb_store::backend::NewNamespace;
use eventodb_store::{Error, EventStore};

use crate::usage::Usage;

/// What is known about the administrator's token.
pub(super) struct Administrator {
    /// The token, where it was given or has just been made.
    pub(super) token: Option<Token>,
    /// Whether it has just been made, so that somebody must be told.
    pub(super) is_new: bool,
}

/// Creates the namespace where it is missing; otherwise a given token must be the stored one.
///
/// # Errors
/// [`Usage`] where it is not; says how to rotate it.
pub(super) async fn prepare(store: &EventStore, given: Option<Token>) -> anyhow::Result<Administrator> {
    let token = given.clone().unwrap_or_else(|| Token::generate(DEFAULT_NAMESPACE));
    let new = NewNamespace {
        name: DEFAULT_NAMESPACE.to_owned(),
        token_hash: token.hash(),
        description: "The administrator's namespace".to_owned(),
        metadata: "{}".to_owned(),
    };
    match store.create(new).await {
        Ok(_) => return Ok(Administrator { token: Some(token), is_new: given.is_none() }),
        Err(Error::NamespaceExists) => {}
        Err(error) => return Err(Usage::new(error).into()),
    }
    match given {
        Some(token) if !store.has_token(&token).await.map_err(Usage::new)? => Err(Usage(format!(
            "--token is not the stored token of the namespace {DEFAULT_NAMESPACE}: leave it out, or give the namespace a \
             new one with `eventodb token rotate {DEFAULT_NAMESPACE}` while the server is stopped"
        ))
        .into()),
        token => Ok(Administrator { token, is_new: false }),
    }
}
