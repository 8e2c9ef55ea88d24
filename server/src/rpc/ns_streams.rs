//! `ns.streams`: the streams of one's namespace, page by page.

use eventodb_protocol::request::{Call, ListPage};
use http::Response;

use super::Context;
use crate::body::Body;
use crate::error::Failure;
use crate::reply;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let log = context.log().await?;
    let page = ListPage::streams(call, context.limits())?;
    Ok(reply::json(&log.streams(&page).await?))
}
