//! `stream.last`: the last message of a stream, or the last one of a type.

use axum::response::Response;
use eventodb_protocol::request::{Call, Read};
use eventodb_protocol::wire::Form;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response, Failure> {
    let log = context.log().await?;
    let mut page = log.read(Read::stream_last(call, context.limits())?).await?;
    let mut json = Vec::new();
    match page.next().await? {
        Some(chunk) => chunk.write(&mut json, Form::Stream),
        None => json.extend_from_slice(b"null"),
    }
    Ok(reply::text(json))
}
