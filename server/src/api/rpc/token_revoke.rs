//! `token.revoke`: ends a token, and what it has opened.

use axum::response::Response;
use eventodb_protocol::reply::TokenRevoked;
use eventodb_protocol::request::{Call, RevokeToken};
use eventodb_store::model::TokenId;

use super::context::Context;
use super::token;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let RevokeToken { id } = RevokeToken::parse(call)?;
    context.administers(&id.to_string());
    let found = token::find(context, &caller, TokenId(id)).await?;
    let revoked = context.state.store.revoke_token(found.id).await?;
    let revoked_at = revoked.end().expect("a revoked token has an end");
    Ok(reply::json(&TokenRevoked { id: id.to_string(), revoked_at }))
}
