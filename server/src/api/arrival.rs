//! What comes with each request beside the request itself.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::FromRequestParts;
use http::request::Parts;

use crate::http::Exchange;
use crate::observe::{Method, Record};

/// A request as the HTTP layer handed it over. Handlers take it as an argument.
#[derive(Clone)]
pub(super) struct Arrival {
    pub(super) exchange: Arc<Exchange>,
    /// The address of the client.
    pub(super) client: IpAddr,
    /// When the request began.
    pub(super) started: Instant,
}

impl Arrival {
    /// What the log has of the request, which it calls `method`.
    pub(super) fn record(&self, method: Method) -> Record {
        Record::new(self.exchange.id().clone(), self.client, method, self.started)
    }
}

impl<S: Sync> FromRequestParts<S> for Arrival {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let arrival = parts.extensions.get().cloned();
        Ok(arrival.expect("the service puts it into each request"))
    }
}
