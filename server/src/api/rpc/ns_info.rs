//! `ns.info`: one namespace, one's own or as the administrator any.

use axum::response::Response;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::auth::{Manager, refused};
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    manager: Manager,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let namespace = call.name("namespace", context.limits())?;
    let meant = manager.check(&namespace)?;
    Ok(reply::json(&context.state.store.info(meant).await.map_err(|error| refused(meant, error))?))
}
