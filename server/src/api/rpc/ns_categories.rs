//! `ns.categories`: the categories of one's namespace, page by page.

use axum::response::Response;
use eventodb_protocol::request::{Call, ListPage};

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response, Failure> {
    let log = context.log().await?;
    let page = ListPage::categories(call, context.limits())?;
    Ok(reply::json(&log.categories(&page).await?))
}
