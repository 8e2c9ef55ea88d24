//! What an application is to the HTTP layer.

use std::sync::Arc;

use http::{HeaderMap, Request, Response};

use super::arriving::Arriving;
use super::body::Body;
use super::exchange::Exchange;

/// An application: it answers requests, and never sees a socket.
pub(crate) trait Service: Send + Sync + 'static {
    /// Answers a request. The HTTP layer drops the future when the client leaves.
    fn answer(
        self: Arc<Self>,
        request: Request<Arriving>,
        exchange: Arc<Exchange>,
    ) -> impl Future<Output = Answer> + Send + 'static;
}

/// The answer to a request.
pub(crate) enum Answer {
    /// A reply that ends by itself.
    Reply(Response<Body>),
    /// A reply that goes on until the client leaves or the application ends it. With HTTP/1.1 it has its connection for
    /// itself from now on, and the connection closes behind it.
    Stream(Response<Body>),
}

impl Answer {
    /// The header fields of the reply.
    pub(crate) fn headers_mut(&mut self) -> &mut HeaderMap {
        let (Self::Reply(response) | Self::Stream(response)) = self;
        response.headers_mut()
    }
}
