//! What the calls about tokens share: which tokens a caller may know of, and what is told about one.

use eventodb_protocol::reply::{TokenAbout, TokenCreated};
use eventodb_protocol::{ErrorCode, Token};
use eventodb_store::model::{TokenId, TokenRecord};

use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::Failure;

/// The token of this id, living or not.
///
/// # Errors
/// `TOKEN_NOT_FOUND` if there is none, or if it is another namespace's and the caller is not the administrator: the id
/// alone must not tell whether there is such a token.
pub(super) async fn find(context: &Context<'_>, caller: &Caller, id: TokenId) -> Result<TokenRecord, Failure> {
    let found = context.state.store.token(id).await?;
    let may_know =
        |token: &TokenRecord| caller.check_namespace(&token.namespace).is_ok_and(|meant| meant.admits(token.origin));
    let found = found.filter(may_know);
    found.ok_or_else(|| Failure::new(ErrorCode::TokenNotFound, "there is no such token"))
}

/// The reply that shows a token, which no later one does.
pub(super) fn created(token: &Token, record: TokenRecord) -> TokenCreated {
    TokenCreated { token: token.to_string(), about: about(record) }
}

/// All that is told about a token later on.
pub(super) fn about(record: TokenRecord) -> TokenAbout {
    let categories = record.grant.categories().names();
    TokenAbout {
        id: record.id.0.to_string(),
        namespace: record.namespace.to_string(),
        rights: record.grant.rights(),
        categories: categories.map(|names| names.iter().map(ToString::to_string).collect()),
        created_at: record.created_at,
        expires_at: record.end(),
        description: record.description,
    }
}
