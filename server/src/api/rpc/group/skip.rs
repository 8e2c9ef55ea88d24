//! `group.skip`: messages of a parked stream count as handled, or tells how many that would be.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::Skip;

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
    let skip = Skip::parse(call, context.limits())?;
    if !skip.dry_run {
        context.administers(group.name());
    }
    Ok(reply::json(&caller.log().groups().skip(&group, skip, token_of(&caller)).await?))
}
