//! `ns.streams`: the streams of one's namespace, page by page.

use axum::response::Response;
use eventodb_protocol::reply::StreamListed;
use eventodb_protocol::request::{Call, ListPage};

use super::context::Context;
use super::listing;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let page = ListPage::streams(call, context.limits())?;
    Ok(reply::json(&listing::page::<StreamListed>(&caller, &page).await?))
}
