//! `group.audit`: what operators did to a group, newest first.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;
use eventodb_protocol::request::group::AuditPage;

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
    let page = AuditPage::parse(call)?;
    Ok(reply::json(&caller.log().groups().audit(&group, page).await?))
}
