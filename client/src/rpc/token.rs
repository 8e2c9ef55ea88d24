//! `token.*`: the tokens of a namespace.

use eventodb_protocol::reply::{TokenCreated, TokenListed, TokenRevoked};
use eventodb_protocol::{Rights, Timestamp};
use serde::Serialize;

use crate::client::{Client, Repeat};
use crate::error::Result;

/// A token to be created.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateToken {
    /// The namespace that it opens; the client's own if left out. Another one needs the administrator's token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The token itself, of the protocol's form. If left out, the server generates one, and the call is not repeated if
    /// its outcome is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it allows.
    pub rights: Rights,
    /// The categories, or prefixes that end in `*`, to which the rights are limited; all if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
    /// When it expires; never if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// How a token is rotated.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RotateToken {
    /// The new token, of the protocol's form. If left out, the server generates one, and the call is not repeated if
    /// its outcome is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// How long the old token still opens its namespace, in milliseconds. Default 5 minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<u64>,
}

impl Client {
    /// Creates a token. Needs the right `admin`.
    ///
    /// # Errors
    /// `Forbidden`, `NamespaceNotFound`, and whatever else a call can fail with.
    pub async fn create_token(&self, token: &CreateToken) -> Result<TokenCreated> {
        let repeat = repeat(token.token.as_ref());
        self.call(&("token.create", token), repeat).await?.parse()
    }

    /// The living tokens of a namespace, of the client's own if it is not named. Needs the right `admin`.
    ///
    /// # Errors
    /// `Forbidden`, `NamespaceNotFound`, and whatever else a call can fail with.
    pub async fn tokens(&self, namespace: Option<&str>) -> Result<Vec<TokenListed>> {
        let options = serde_json::json!({ "namespace": namespace });
        self.call(&("token.list", options), Repeat::Always).await?.parse()
    }

    /// Ends a token at once. Needs the right `admin`.
    ///
    /// # Errors
    /// `Forbidden`, `TokenNotFound`, and whatever else a call can fail with.
    pub async fn revoke_token(&self, id: &str) -> Result<TokenRevoked> {
        self.call(&("token.revoke", id), Repeat::Always).await?.parse()
    }

    /// Has a new token take the place of another, or of the client's own if no id is given. The client goes on with its
    /// old one.
    ///
    /// # Errors
    /// `Forbidden`, `TokenNotFound`, and whatever else a call can fail with.
    pub async fn rotate_token(&self, id: Option<&str>, options: &RotateToken) -> Result<TokenCreated> {
        let repeat = repeat(options.token.as_ref());
        self.call(&("token.rotate", id, options), repeat).await?.parse()
    }
}

/// A call with a token of the caller's makes one token, however often it is repeated.
fn repeat(given: Option<&String>) -> Repeat {
    if given.is_some() { Repeat::Always } else { Repeat::IfNotDone }
}
