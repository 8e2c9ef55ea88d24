//! `message.get`: the message with an id.

use axum::response::Response;
use eventodb_protocol::request::{self, Call};
use eventodb_protocol::wire::{self, Form};
use eventodb_protocol::{Right, name};

use super::context::Context;
use crate::api::auth::Caller;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(_: &mut Context<'_>, caller: Caller, call: &mut Call<'_>) -> Result<Response, Failure> {
    let id = request::message_id("id", &call.string("id")?)?;
    // An id names no category: a refusal would tell that there is such a message, and where.
    let found = caller
        .log()
        .message(id)
        .await?
        .filter(|message| caller.grant().allows(Right::Read, name::category(&message.stream)));
    let mut json = Vec::new();
    match found {
        Some(message) => wire::write_message(&mut json, message.as_ref(), Form::Category),
        None => json.extend_from_slice(b"null"),
    }
    Ok(reply::text(json))
}
