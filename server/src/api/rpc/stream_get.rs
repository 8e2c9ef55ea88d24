//! `stream.get`: the messages of a stream.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::{Call, Read};
use eventodb_protocol::wire::Form;

use super::context::Context;
use super::page;
use crate::api::auth::Caller;
use crate::api::errors::Failure;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let read = Read::stream_get(call, context.limits())?;
    caller.check_scope(Right::Read, &read.filter.scope)?;
    page::answer(context, &caller, read, Form::Stream).await
}
