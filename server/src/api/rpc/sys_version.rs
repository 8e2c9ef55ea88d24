//! `sys.version`: the version of the server.

use axum::response::Response;
use eventodb_protocol::VERSION;
use eventodb_protocol::request::Call;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(_context: &mut Context<'_>, _call: &mut Call<'_>) -> Result<Response, Failure> {
    Ok(reply::json(VERSION))
}
