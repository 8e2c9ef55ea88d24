//! `stream.write`: appends one message.

use axum::response::Response;
use eventodb_protocol::request::{Call, single_write};
use eventodb_protocol::wire::write_integer;

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
    let write = single_write(call, context.limits())?;
    let written = only(&append(context, &caller, write, Conflicts::One).await?);
    let mut json = Vec::with_capacity(80);
    json.extend_from_slice(br#"{"position":"#);
    write_integer(&mut json, written.first_position);
    json.extend_from_slice(br#","globalPosition":"#);
    write_integer(&mut json, written.first_global_position);
    json.push(b'}');
    Ok(reply::text(json))
}
