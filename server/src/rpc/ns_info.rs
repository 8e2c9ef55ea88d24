//! `ns.info`: one namespace, one's own or as the administrator any.

use eventodb_protocol::request::Call;
use http::Response;

use super::Context;
use crate::auth::Manager;
use crate::body::Body;
use crate::error::Failure;
use crate::reply;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let manager = Manager::authorize(context.state, context.credentials).await?;
    let namespace = call.name("namespace", context.limits())?;
    manager.check(&namespace)?;
    Ok(reply::json(&context.state.store.info(&namespace).await?))
}
