//! The ceiling of serving HTTP: a bare hyper handler that answers a constant.

use std::convert::Infallible;
use std::io::Write as _;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Collected, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The answer to every request, as long as that to a write.
const ANSWER: &[u8] = br#"{"position":12345,"globalPosition":1234567}"#;

/// Serves until the process is ended, after printing `http://127.0.0.1:PORT`.
///
/// # Errors
/// There is no free port, or standard output is closed.
pub async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "http://{}", listener.local_addr()?)?;
    answer_all(listener, |_| (StatusCode::OK, ANSWER)).await
}

/// Answers each request by its body.
pub(crate) async fn answer_all<F>(listener: TcpListener, answer: F) -> anyhow::Result<()>
where
    F: Fn(&[u8]) -> (StatusCode, &'static [u8]) + Clone + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer.clone();
            async move {
                // A client that breaks off its body does not read the answer.
                let body = request.into_body().collect().await.map(Collected::to_bytes).unwrap_or_default();
                let (status, text) = answer(&body);
                let mut response = Response::new(Full::new(Bytes::from_static(text)));
                *response.status_mut() = status;
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok::<_, Infallible>(response)
            }
        });
        // A client that goes away is the end of its connection and of nothing else.
        tokio::spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await) });
    }
}
