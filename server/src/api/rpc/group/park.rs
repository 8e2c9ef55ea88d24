//! `group.park`: a message failed, and its stream waits.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::Park;

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
    let park = Park::parse(call)?;
    Ok(reply::json(&caller.log().groups().park(&group, &member, park).await?))
}
