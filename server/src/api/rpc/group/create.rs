//! `group.create`: makes a group, unless there is one of that name.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::{CreateGroup, group_name};
use eventodb_store::Error;

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
    let groups = caller.log().groups();
    // A group of that name that reads something else is refused with what it reads.
    match groups.definition(&name).await {
        Ok(there) => caller.check_categories(Right::Consume, &there.categories)?,
        Err(Error::GroupNotFound) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(reply::json(&groups.create(&name, new).await?))
}
