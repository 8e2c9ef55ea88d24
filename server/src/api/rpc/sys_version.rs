//! `sys.version`: the version of the server.

use axum::response::Response;
use eventodb_protocol::VERSION;
use eventodb_protocol::request::Call;

use super::context::{Anybody, Context};
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(_: &mut Context<'_>, _: Anybody, _call: &mut Call<'_>) -> Result<Response, Failure> {
    Ok(reply::json(VERSION))
}
