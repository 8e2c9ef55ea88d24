//! Connections: opened, kept for reuse, and given one request at a time.
//!
//! HTTP/1.1 with keep-alive and a small pool. A general pool hides whether a failed request can have reached the
//! server, and the client must know it.

mod endpoint;
mod pool;
#[cfg(feature = "tls")]
mod tls;

use bytes::Bytes;
use http_body_util::{Either, Full, channel::Channel};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

pub(crate) use endpoint::Endpoint;
pub(crate) use pool::{Pool, PoolSettings, Reply, error_body};
#[cfg(feature = "tls")]
pub(crate) use tls::TlsSettings;

use crate::error::{Error, Result};

/// A request's body: complete, or fed through a channel.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, std::io::Error>>;

/// One open connection.
pub(crate) type Sender = SendRequest<Body>;

/// Opens connections to the server.
#[derive(Clone)]
pub(crate) struct Connector {
    endpoint: Endpoint,
    #[cfg(feature = "tls")]
    tls: Option<tls::Connector>,
}

impl Connector {
    pub(crate) fn new(endpoint: Endpoint, #[cfg(feature = "tls")] settings: &TlsSettings) -> Result<Self> {
        #[cfg(not(feature = "tls"))]
        if endpoint.tls {
            return Err(Error::setting("an https URL needs the feature `tls` of eventodb-client"));
        }
        #[cfg(feature = "tls")]
        let tls = endpoint.tls.then(|| tls::Connector::new(settings)).transpose()?;
        Ok(Self {
            endpoint,
            #[cfg(feature = "tls")]
            tls,
        })
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Opens a connection. If this fails, nothing has been sent.
    pub(crate) async fn connect(&self) -> Result<Sender> {
        let failed = |error| Error::connection(format!("cannot connect to {}", self.endpoint.authority), false, error);
        let stream = TcpStream::connect((&*self.endpoint.host, self.endpoint.port)).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return handshake(tls.wrap(&self.endpoint.host, stream).await.map_err(failed)?).await;
        }
        handshake(stream).await
    }
}

async fn handshake(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Sender> {
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io))
        .await
        .map_err(|error| Error::connection("cannot open an HTTP connection", false, error))?;
    // The connection's task ends when its sender and the reply's body are dropped, or the peer closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "connection ended");
        }
    });
    Ok(sender)
}

/// A complete body.
pub(crate) fn full(body: Bytes) -> Body {
    Either::Left(Full::new(body))
}
