//! `group.parked`: the parked streams of a group, page by page.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::ParkedPage;

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
    let group = named(context, &caller, call, Right::Read).await?;
    let page = ParkedPage::parse(call, context.limits())?;
    Ok(reply::json(&caller.log().groups().parked(&group, page).await?))
}
