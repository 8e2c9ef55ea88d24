//! `sys.config`: shows the settings of the process, and changes those that may be changed while it runs.

use std::sync::Arc;

use axum::response::Response;
use eventodb_protocol::request::{Call, ChangeConfiguration};

use super::context::Context;
use crate::api::auth::Administrator;
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    _: Administrator,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let Some(steering) = context.state.config.steering.clone() else {
        return Err(Failure::invalid("this server was not started by the command line, which has the settings"));
    };
    let change = ChangeConfiguration::parse(call, steering.changeable())?;
    if change.is_empty() {
        return Ok(reply::json(&steering.show()));
    }
    context.administers(&change.names().join(","));
    let changing = Arc::clone(&steering);
    // Settings are parsed as a command line is, which takes longer than a request should hold up others.
    let changed = tokio::task::spawn_blocking(move || changing.change(&change)).await;
    let changed = changed.map_err(|_| Failure::panicked())?.map_err(Failure::invalid)?;
    context.administers(&changed);
    Ok(reply::json(&steering.show()))
}
