//! `stream.version`: the position of a stream's last message.

use axum::response::Response;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(context: &mut Context<'_>, call: &mut Call<'_>) -> Result<Response, Failure> {
    let log = context.log().await?;
    let stream = call.name("stream", context.limits())?;
    if stream.is_empty() {
        return Err(Failure::invalid("stream must be a non-empty string"));
    }
    Ok(reply::json(&log.version(&stream).await?))
}
