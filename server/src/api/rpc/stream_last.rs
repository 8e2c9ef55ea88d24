//! `stream.last`: the last message of a stream, or the last one of a type.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::{Call, Read};
use eventodb_protocol::wire::Form;

use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let read = Read::stream_last(call, context.limits())?;
    caller.check_scope(Right::Read, &read.filter.scope)?;
    let mut page = caller.log().read(read).await?;
    let mut json = Vec::new();
    match page.next().await? {
        Some(chunk) => chunk.write(&mut json, Form::Stream),
        None => json.extend_from_slice(b"null"),
    }
    Ok(reply::text(json))
}
