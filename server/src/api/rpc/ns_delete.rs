//! `ns.delete`: deletes a namespace, one's own or as the administrator any but `default`.

use axum::response::Response;
use eventodb_protocol::DEFAULT_NAMESPACE;
use eventodb_protocol::reply::NamespaceDeleted;
use eventodb_protocol::request::Call;

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
    if namespace == DEFAULT_NAMESPACE {
        return Err(Failure::invalid("the namespace default cannot be deleted"));
    }
    let (deleted_at, messages_deleted) =
        context.state.store.delete(meant).await.map_err(|error| refused(meant, error))?;
    context.state.used.remove(&namespace);
    Ok(reply::json(&NamespaceDeleted { namespace: namespace.into_owned(), deleted_at, messages_deleted }))
}
