//! `token.create`: makes a token with fewer rights than `admin`, or as many, and shows it this once.

use axum::response::Response;
use eventodb_protocol::Timestamp;
use eventodb_protocol::request::{Call, CreateToken};
use eventodb_store::model::{NewToken, TokenId};

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
    let new = CreateToken::parse(call, caller.namespace(), context.limits())?;
    let meant = caller.check_namespace(new.token.namespace())?;
    context.administers(new.token.namespace());
    if new.expires_at.is_some_and(|end| end <= Timestamp::now()) {
        return Err(Failure::invalid("expiresAt must lie in the future"));
    }
    context.check_servers("further tokens").await?;
    caller.confirm(context.state).await?;
    let created = context.state.store.create_token(NewToken {
        id: TokenId::generate(),
        hash: new.token.hash(),
        namespace: meant.name.into(),
        origin: meant.origin,
        description: new.description,
        grant: new.grant,
        expires_at: new.expires_at,
    });
    let created = created.await.map_err(|error| refused(meant, error))?;
    context.administers(&created.id.0.to_string());
    Ok(reply::json(&token::created(&new.token, created)))
}
