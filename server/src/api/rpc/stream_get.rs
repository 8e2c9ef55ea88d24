//! `stream.get`: the messages of a stream.

use eventodb_protocol::request::{Call, Read};
use eventodb_protocol::wire::Form;
use http::Response;

use super::context::Context;
use super::page;
use crate::api::errors::Failure;
use crate::http::Body;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    let log = context.log().await?;
    let read = Read::stream_get(call, context.limits())?;
    page::answer(context, &log, read, Form::Stream).await
}
