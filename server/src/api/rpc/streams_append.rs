//! `streams.append`: appends to several streams at once, under conditions on these and others.

use eventodb_protocol::request::{self, Call};
use http::Response;

use super::append::append;
use super::context::Context;
use crate::api::errors::{Conflicts, Failure};
use crate::api::reply;
use crate::http::Body;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let log = context.log().await?;
    let entries = request::streams_append(call, context.limits())?;
    Ok(reply::json(&append(context, &log, entries, Conflicts::All).await?))
}
