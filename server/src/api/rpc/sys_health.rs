//! `sys.health`: that the server lives, on what, and with how many connections.

use axum::response::Response;
use eventodb_protocol::request::Call;
use serde::Serialize;

use super::context::Context;
use crate::api::errors::Failure;
use crate::api::reply;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    backend: &'static str,
    connections: usize,
}

pub(super) async fn answer(context: &mut Context<'_>, _call: &mut Call<'_>) -> Result<Response, Failure> {
    let backend = context.state.store.backend_kind();
    Ok(reply::json(&Health { status: "ok", backend, connections: context.state.watch.connections() }))
}
