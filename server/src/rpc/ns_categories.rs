//! `ns.categories`: the categories of one's namespace.

use eventodb_schema::request::Call;
use http::Response;

use super::Context;
use crate::body::Body;
use crate::error::Failure;
use crate::reply;

pub(super) async fn answer(context: &mut Context<'_>, _call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let log = context.log().await?;
    Ok(reply::json(&log.categories().await?))
}
