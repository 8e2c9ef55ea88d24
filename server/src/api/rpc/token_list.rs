//! `token.list`: the living tokens of a namespace, without the tokens themselves.

use axum::response::Response;
use eventodb_protocol::reply::TokenListed;
use eventodb_protocol::request::{Call, ListTokens};

use super::context::Context;
use super::token;
use crate::api::auth::{Caller, refused};
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let ListTokens { namespace } = ListTokens::parse(call, caller.namespace(), context.limits())?;
    let meant = caller.check_namespace(&namespace)?;
    let tokens = context.state.store.tokens(meant).await.map_err(|error| refused(meant, error))?;
    let listed =
        tokens.into_iter().map(|record| TokenListed { last_used_at: record.last_used_at, about: token::about(record) });
    Ok(reply::json(&listed.collect::<Vec<_>>()))
}
