//! `ns.update`: changes a namespace's description, its protection and, as the administrator, its quota.

use axum::response::Response;
use eventodb_protocol::request::{Call, UpdateNamespace};
use eventodb_store::model::NamespaceUpdate;

use super::context::Context;
use crate::api::auth::{Manager, refused};
use crate::api::errors::Failure;
use crate::api::reply;

pub(super) async fn answer(
    context: &mut Context<'_>,
    manager: Manager,
    call: &mut Call<'_>,
) -> Result<Response, Failure> {
    let namespace = call.name("namespace", context.limits())?;
    let meant = manager.check(&namespace)?;
    context.administers(&namespace);
    let UpdateNamespace { description, protected, quota } = UpdateNamespace::parse(call)?;
    if quota.is_some() {
        manager.check_administrator()?;
    }
    let update = NamespaceUpdate { description, protected, quota };
    context.state.store.update(meant, &update).await.map_err(|error| refused(meant, error))?;
    Ok(reply::json(&context.state.store.info(meant).await.map_err(|error| refused(meant, error))?))
}
