//! `group.list`: the groups of one's namespace.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;

use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::api::rpc::context::Context;

/// A token that is limited to categories sees the groups that it may touch.
pub(in super::super) async fn answer(
    _: &mut Context<'_>,
    caller: Caller,
    _: &mut Call<'_>,
) -> Result<Response, Failure> {
    let mut groups = caller.log().groups().list().await?;
    groups.retain(|group| caller.check_categories(Right::Read, &group.categories).is_ok());
    Ok(reply::json(&groups))
}
