//! `token.rotate`: makes a token that takes the place of another one, which ends after a grace.

use axum::response::Response;
use eventodb_protocol::request::{Call, RotateToken};
use eventodb_store::model::{Rotation, TokenId};

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
    let RotateToken { id, token, grace } = RotateToken::parse(call)?;
    let id = id.map(TokenId).or_else(|| caller.token_id());
    let id =
        id.ok_or_else(|| Failure::invalid("id is required in test mode, where the caller's token need not exist"))?;
    context.administers(&id.0.to_string());
    let old = token::find(context, &caller, id).await?;
    let token = token.of(&old.namespace)?;
    let rotation = Rotation { from: id, id: TokenId::generate(), hash: token.hash(), grace };
    caller.confirm(context.state).await?;
    let new = context.state.store.rotate_token(rotation).await?;
    Ok(reply::json(&token::created(&token, new)))
}
