//! `ns.streams`: the streams of one's namespace, page by page.

use eventodb_protocol::request::{Call, ListPage};
use http::Response;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::http::Body;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let log = context.log().await?;
    let page = ListPage::streams(call, context.limits())?;
    Ok(reply::json(&log.streams(&page).await?))
}
