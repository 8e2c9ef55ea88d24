//! `group.wait`: waits until a group has handled what was written.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::Wait;

use super::target::{named, waiting};
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;

pub(in super::super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let group = named(context, &caller, call, Right::Read).await?;
    let wait = Wait::parse(call, context.limits())?;
    let (state, timeout_ms) = (context.state, wait.timeout_ms);
    // It is kept once while it waits, whatever it is handed through.
    let reply = Box::pin(caller.log().groups().wait(&group, wait, &state.stopping));
    Ok(reply::json(&waiting(context, &caller, timeout_ms, reply).await?))
}
