//! What a method knows of its caller.

use std::sync::Arc;

use eventodb_protocol::Limits;
use eventodb_store::Log;

use crate::api::auth::{self, Credentials};
use crate::api::errors::Failure;
use crate::api::state::AppState;
use crate::http::Exchange;
use crate::observe::Record;

/// The caller of a method, and all that the method can reach.
pub(super) struct Context<'a> {
    pub(super) state: &'a AppState,
    pub(super) exchange: &'a Exchange,
    pub(super) credentials: &'a Credentials,
    pub(super) record: &'a mut Record,
}

impl Context<'_> {
    /// The log of the caller's namespace.
    pub(super) async fn log(&mut self) -> Result<Arc<Log>, Failure> {
        let caller = auth::authorize(self.state, self.credentials).await?;
        self.exchange.belongs_to(caller.namespace())?;
        self.record.namespace = Some(Arc::clone(caller.namespace()));
        Ok(caller.log)
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.state.config.limits
    }
}
