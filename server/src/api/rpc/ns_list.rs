//! `ns.list`: all namespaces, for the administrator.

use axum::response::Response;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::{auth, reply};

pub(super) async fn answer(context: &mut Context<'_>, _call: &mut Call<'_>) -> Result<Response, Failure> {
    auth::administrator(context.state, context.credentials).await?;
    Ok(reply::json(&context.state.store.list().await?))
}
