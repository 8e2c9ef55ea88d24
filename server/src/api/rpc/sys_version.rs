//! `sys.version`: the version of the server.

use eventodb_protocol::VERSION;
use eventodb_protocol::request::Call;
use http::Response;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;
use crate::http::Body;

pub(super) async fn answer(_context: &mut Context<'_>, _call: &mut Call<'_>) -> Result<Response<Body>, Failure> {
    Ok(reply::json(VERSION))
}
