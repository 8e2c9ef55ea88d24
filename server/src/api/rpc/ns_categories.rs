//! `ns.categories`: the categories of one's namespace, page by page.

use axum::response::Response;
use eventodb_protocol::reply::CategoryListed;
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
    let page = ListPage::categories(call, context.limits())?;
    Ok(reply::json(&listing::page::<CategoryListed>(&caller, &page).await?))
}
