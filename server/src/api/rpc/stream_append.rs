//! `stream.append`: appends messages to one stream, all or none.

use axum::response::Response;
use eventodb_protocol::request::{self, Call};

use super::append::{append, only};
use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::{Conflicts, Failure};
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let messages = request::stream_append(call, context.limits())?;
    let appended = append(context, &caller, messages, Conflicts::One).await?;
    Ok(reply::json(&only(&appended)))
}
