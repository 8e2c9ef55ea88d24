//! `stream.version`: the position of a stream's last message.

use axum::response::Response;
use eventodb_protocol::Right;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: Caller,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let stream = call.name("stream", context.limits())?;
    if stream.is_empty() {
        return Err(Failure::invalid("stream must be a non-empty string"));
    }
    caller.check_stream(Right::Read, &stream)?;
    Ok(reply::json(&caller.log().version(&stream).await?))
}
