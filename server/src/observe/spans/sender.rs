//! Sends spans by OTLP over HTTP, a batch at a time, each on a connection of its own.

use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{Either, select};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Request};
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

use super::encoding::{self, Ended};
use crate::otlp::OtlpEndpoint;

/// Calls whose spans are sent together.
const BATCH: usize = 512;
/// How long it is waited for more of them.
const GATHER: Duration = Duration::from_secs(1);
/// How long a receiver may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same for what waits when the server ends.
const LAST_PATIENCE: Duration = Duration::from_secs(1);
/// How often the log tells that spans are dropped.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Sends spans.
pub(super) struct Sender<'a> {
    endpoint: &'a OtlpEndpoint,
    /// Spans that were dropped.
    dropped: &'a AtomicU64,
    /// How many of them the log has told of.
    told_of: u64,
    told: Option<Instant>,
    /// Why spans could not be sent last.
    error: Option<Unsent>,
}

/// Why spans are not sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error("it cannot be reached")]
    Connect(#[source] std::io::Error),
    #[error("it does not answer")]
    Http(#[from] hyper::Error),
    #[error("it answers with status {0}")]
    Refused(u16),
    #[error("it does not answer in time")]
    TimedOut,
}

impl<'a> Sender<'a> {
    pub(super) fn new(endpoint: &'a OtlpEndpoint, dropped: &'a AtomicU64) -> Self {
        Self { endpoint, dropped, told_of: 0, told: None, error: None }
    }

    /// Sends what comes until the end, and then what waits.
    pub(super) async fn run(mut self, mut waiting: Receiver<Ended>, end: CancellationToken) {
        let mut batch = Vec::new();
        while end.run_until_cancelled(gather(&mut waiting, &mut batch)).await.is_some() {
            if end.run_until_cancelled(self.send(&batch, PATIENCE)).await.is_none() {
                break;
            }
            batch.clear();
            if self.told.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
                self.tell();
            }
        }
        while let Ok(call) = waiting.try_recv() {
            batch.push(call);
        }
        if !batch.is_empty() {
            self.send(&batch, LAST_PATIENCE).await;
        }
        self.tell();
    }

    /// Sends a batch once. If that fails, its spans are dropped.
    async fn send(&mut self, batch: &[Ended], patience: Duration) {
        let sent = tokio::time::timeout(patience, post(self.endpoint, encoding::body(batch))).await;
        if let Err(error) = sent.unwrap_or(Err(Unsent::TimedOut)) {
            self.dropped.fetch_add(batch.iter().map(Ended::spans).sum(), Relaxed);
            self.error = Some(error);
        }
    }

    /// Logs how many spans were dropped since that was told last, if any were.
    fn tell(&mut self) {
        let all = self.dropped.load(Relaxed);
        let dropped = all - std::mem::replace(&mut self.told_of, all);
        if dropped > 0 {
            let error = self.error.take().map(|error| eventodb_store::Chain(&error).to_string());
            tracing::warn!(dropped, endpoint = %self.endpoint, error, "spans are dropped");
            self.told = Some(Instant::now());
        }
    }
}

/// Waits for a batch. May be dropped and called again; nothing is lost.
async fn gather(waiting: &mut Receiver<Ended>, batch: &mut Vec<Ended>) {
    if batch.is_empty() {
        waiting.recv_many(batch, BATCH).await;
    }
    let more = async {
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            waiting.recv_many(batch, room).await;
        }
    };
    let _ = tokio::time::timeout(GATHER, more).await;
}

/// Sends a body to a receiver that must take it.
async fn post(endpoint: &OtlpEndpoint, body: Vec<u8>) -> Result<(), Unsent> {
    let stream = TcpStream::connect(endpoint.authority()).await.map_err(Unsent::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::post(endpoint.path()).body(Full::new(Bytes::from(body))).expect("the path was checked");
    let host = HeaderValue::from_str(endpoint.authority()).expect("the authority was checked");
    request.headers_mut().extend([(HOST, host), (CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    // The connection lives as long as the request, and no longer.
    let reply = match select(pin!(sender.send_request(request)), connection).await {
        Either::Left((reply, _)) => reply?,
        Either::Right((_, reply)) => reply.await?,
    };
    if reply.status().is_success() { Ok(()) } else { Err(Unsent::Refused(reply.status().as_u16())) }
}
