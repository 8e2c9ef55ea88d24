//! `ns.create`: makes a namespace and tells its token, this once.

use axum::response::Response;
use eventodb_protocol::reply::NamespaceCreated;
use eventodb_protocol::request::{Call, CreateNamespace};
use eventodb_store::model::NewNamespace;

use super::context::Context;
use crate::api::auth::Administrator;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    administrator: Administrator,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let CreateNamespace { namespace, token, description, metadata } = CreateNamespace::parse(call, context.limits())?;
    context.administers(&namespace);
    let new = NewNamespace { name: namespace, token_hash: token.hash(), description, metadata };
    administrator.confirm(context.state).await?;
    let created = context.state.store.create(new).await?;
    Ok(reply::json(&NamespaceCreated {
        namespace: created.name.to_string(),
        token: token.to_string(),
        created_at: created.created_at,
    }))
}
