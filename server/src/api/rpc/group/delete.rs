//! `group.delete`: deletes a group. The messages stay.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;

use super::target::named;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;

pub(in super::super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let group = named(context, &caller, call, Right::Admin).await?;
    context.administers(group.name());
    Ok(reply::json(&caller.log().groups().delete(&group).await?))
}
