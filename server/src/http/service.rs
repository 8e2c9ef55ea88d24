//! What an application is to the HTTP layer.

use std::error::Error;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;

use super::arriving::Arriving;
use super::exchange::Exchange;

/// An application: it answers requests, and never sees a socket.
pub(crate) trait Service: Send + Sync + 'static {
    /// The body of its replies. Pieces of it are counted from when they are handed over until they are sent.
    type Body: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + Unpin + 'static;

    /// The system has no descriptor left for a connection, perhaps because the application has too many.
    fn give_up_files(&self) -> impl Future<Output = ()> + Send;

    /// Answers a request, which came by a connection from `peer`. The future is small, because the HTTP layer moves it. It is
    /// dropped when its HTTP/2 stream is reset, when a subscriber leaves, and when the connection is cut. Work that must
    /// come to its end needs a task (`rpc::to_its_end`).
    fn answer(
        &self,
        request: Request<Arriving>,
        exchange: Arc<Exchange>,
        peer: IpAddr,
    ) -> impl Future<Output = Answer<Self::Body>> + Send;
}

/// The answer to a request.
pub(crate) enum Answer<B> {
    /// A reply that ends by itself.
    Reply(Response<B>),
    /// A reply that goes on until the client leaves or the application ends it. With HTTP/1.1 it has its connection for
    /// itself from now on, and the connection closes behind it.
    Stream(Response<B>),
}
