//! `streams.append`: appends to several streams at once, under conditions on these and others.

use axum::response::Response;
use eventodb_protocol::request::{self, Call};

use super::append::append;
use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::{Conflicts, Failure};
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let entries = request::streams_append(call, context.limits())?;
    Ok(reply::json(&append(context, &caller, entries, Conflicts::All).await?))
}
