//! `group.handled`: messages of a parked stream were handled.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::Handled;

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
    let handled = Handled::parse(call, context.limits())?;
    Ok(reply::json(&caller.log().groups().handled(&group, &member, handled).await?))
}
