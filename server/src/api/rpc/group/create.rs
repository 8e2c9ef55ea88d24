//! `group.create`: makes a group, unless there is one of that name.

use axum::response::Response;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::{CreateGroup, group_name};
use eventodb_protocol::{ErrorCode, Right};

use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;

pub(in super::super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let name = group_name(call, context.limits())?;
    let new = CreateGroup::parse(call, context.limits())?;
    caller.check_categories(Right::Consume, &new.categories)?;
    // A group of that name that reads something else is refused with what it reads.
    match caller.check_group(Right::Consume, &name).await {
        Err(refused) if refused.code() == ErrorCode::GroupNotFound => context.check_servers("consumer groups").await?,
        checked => _ = checked?,
    }
    Ok(reply::json(&caller.log().groups().create(&name, new).await?))
}
