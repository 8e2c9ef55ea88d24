//! `sys.health`: that the server lives, on what, and with how many connections.

use axum::response::Response;
use eventodb_protocol::reply::Health;
use eventodb_protocol::request::Call;

use super::context::{Anybody, Context};
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(context: &mut Context<'_>, _: Anybody, _call: &mut Call<'_>) -> Result<Response, Failure> {
    Ok(reply::json(&Health {
        status: "ok".to_owned(),
        backend: context.state.store.backend_kind().to_owned(),
        connections: context.state.watch.connections() as u64,
    }))
}
