//! `group.resize`: gives a group another number of partitions.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::ResizeGroup;

use super::target::{named, token_of};
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
    let resize = ResizeGroup::parse(call)?;
    Ok(reply::json(&caller.log().groups().resize(&group, resize, token_of(&caller)).await?))
}
