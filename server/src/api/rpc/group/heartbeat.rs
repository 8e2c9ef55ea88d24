//! `group.heartbeat`: a member renews its lease, and tells how far it is.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::MemberCall;

use super::target::{member_of, waiting_member};
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;

pub(in super::super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let (group, member) = member_of(context, &caller, call).await?;
    let heartbeat = MemberCall::parse(call)?;
    let (state, call) = (context.state, heartbeat.clone());
    // It is kept once while it waits, whatever it is handed through.
    let reply = Box::pin(caller.log().groups().heartbeat(&group, &member, heartbeat, &state.stopping));
    Ok(reply::json(&waiting_member(context, &caller, (&group, &member, call), reply).await?))
}
