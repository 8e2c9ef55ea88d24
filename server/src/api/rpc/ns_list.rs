//! `ns.list`: all namespaces, for the administrator.

use axum::response::Response;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::auth::Administrator;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    _: Administrator,
    _call: &mut Call<'_>,
) -> Result<Response, Failure> {
    Ok(reply::json(&context.state.store.list().await?))
}
