//! `group.leave`: a member gives back all that it has.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::Leave;

use super::target::member_of;
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
    let leave = Leave::parse(call)?;
    caller.log().groups().leave(&group, &member, leave).await?;
    Ok(reply::text("{}"))
}
