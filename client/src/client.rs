//! The client: the server's address, the token, the time limits, and one method per call.
//!
//! Reads and writes are repeated after failures. Repeating a write is safe: its message keeps its id over all attempts,
//! and the server writes an id once.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request};
use serde::Serialize;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::retry::RetryPolicy;
#[cfg(feature = "tls")]
use crate::transport::TlsSettings;
use crate::transport::{Connector, Endpoint, Pool, PoolSettings, Reply};

/// Connects to one namespace of one server. It is cheap to clone, and clones share their connections.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
    retry: RetryPolicy,
    observer: Option<Arc<dyn CallObserver>>,
}

/// Observes calls that fail and are repeated. Each method does nothing unless it is implemented. The methods must not
/// block.
pub trait CallObserver: Send + Sync {
    /// A call failed, and is repeated after `wait`.
    fn retrying(&self, _error: &Error, _wait: Duration) {}

    /// A call that had failed was answered.
    fn recovered(&self) {}
}

struct Shared {
    pool: Pool,
    authorization: Option<HeaderValue>,
    time_limit: Duration,
}

/// Settings of a [`Client`], made by [`Client::builder`].
#[derive(Clone)]
pub struct ClientBuilder {
    url: String,
    token: Option<String>,
    time_limit: Duration,
    retry: RetryPolicy,
    pool: PoolSettings,
    #[cfg(feature = "tls")]
    tls: TlsSettings,
}

/// Whether a call may be sent again if its outcome is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Repeating the call has no further effect.
    Always,
    /// Only if it was certainly not done.
    IfNotDone,
}

/// Largest reply to a call that reads no messages. That of `ns.list` is the largest: 5,000 namespaces, whose descriptions are
/// as long as may be, take less than half of it.
const REPLY_BYTES: usize = 64 << 20;
/// Largest page of messages.
const PAGE_BYTES: usize = 1 << 30;

/// How a call is made.
#[derive(Clone, Copy, Debug)]
struct Manner {
    repeat: Repeat,
    /// How long the server may delay its answer.
    wait: Duration,
    /// Largest reply.
    most: usize,
}

/// A reply whose status is success.
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) head: Option<i64>,
}

impl Client {
    /// A client of the server at `url`, such as `http://localhost:8080`, with default settings.
    ///
    /// # Errors
    /// `Setting` if `url` or `token` cannot be used. The client connects at its first call.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self> {
        let builder = Self::builder(url);
        match token {
            Some(token) => builder.token(token).build(),
            None => builder.build(),
        }
    }

    /// Whether a URL can be that of a server: `http://host:port` or `https://host:port`, perhaps with a path, and without
    /// a user, a query or a fragment. Nobody is asked.
    ///
    /// # Errors
    /// `Setting`, which says what is wrong and shows no more of the URL than its scheme and host.
    pub fn check_url(url: &str) -> Result<()> {
        url.parse::<Endpoint>().map(drop)
    }

    /// Settings to start from.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            token: None,
            time_limit: Duration::from_secs(30),
            retry: RetryPolicy::default(),
            pool: PoolSettings { connections: 64, idle: Duration::from_secs(60), connect: Duration::from_secs(5) },
            #[cfg(feature = "tls")]
            tls: TlsSettings::default(),
        }
    }

    /// The same client, over the same connections, with another retry policy.
    #[must_use]
    pub fn with_retry_policy(&self, retry: RetryPolicy) -> Self {
        Self { retry, ..self.clone() }
    }

    /// The same client, over the same connections, with an observer of its repeated calls.
    #[must_use]
    pub fn with_observer(&self, observer: impl CallObserver + 'static) -> Self {
        Self { observer: Some(Arc::new(observer)), ..self.clone() }
    }

    /// The same client with connections of its own.
    pub(crate) fn with_own_connections(&self) -> Self {
        Self { shared: Arc::new(self.shared.apart()), ..self.clone() }
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// Makes a call, a tuple of the method's name and its arguments, and retries it as the client's settings say.
    ///
    /// # Errors
    /// `Encode` if the call cannot be written as JSON, `Protocol` if the reply is too large, and the errors of
    /// [`Client::send`].
    pub(crate) async fn call(&self, call: &(impl Serialize + Sync), repeat: Repeat) -> Result<Answer> {
        self.call_waiting(call, repeat, Duration::ZERO).await
    }

    /// Makes a call whose answer the server may delay by up to `wait`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn call_waiting(
        &self,
        call: &(impl Serialize + Sync),
        repeat: Repeat,
        wait: Duration,
    ) -> Result<Answer> {
        self.exchange(encoded(call)?, Manner { repeat, wait, most: REPLY_BYTES }).await
    }

    /// Makes a call that reads messages, whose answer the server may delay by up to `wait`.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub(crate) async fn call_for_messages(&self, call: &(impl Serialize + Sync), wait: Duration) -> Result<Answer> {
        self.exchange(encoded(call)?, Manner { repeat: Repeat::Always, wait, most: PAGE_BYTES }).await
    }

    /// Sends the body of a call and retries it as the client's settings say.
    ///
    /// # Errors
    /// The error that the server answered, or `Unavailable`.
    pub(crate) async fn send(&self, body: Bytes, repeat: Repeat) -> Result<Answer> {
        self.exchange(body, Manner { repeat, wait: Duration::ZERO, most: REPLY_BYTES }).await
    }

    async fn exchange(&self, body: Bytes, manner: Manner) -> Result<Answer> {
        let request = self.request(Method::POST, "/rpc", "", body)?;
        let mut backoff = self.retry.start();
        loop {
            let error = match self.attempt(&request, manner).await {
                Ok(answer) => {
                    if let Some(observer) = self.observer.as_ref().filter(|_| backoff.failures() > 0) {
                        observer.recovered();
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            let repeatable = match &error {
                Error::RateLimited { .. } => true,
                Error::Unavailable { maybe_done, .. } => !maybe_done || manner.repeat == Repeat::Always,
                _ => false,
            };
            let wait = repeatable.then(|| backoff.next_wait(error.retry_after())).flatten();
            let Some(wait) = wait else { return Err(error) };
            tracing::debug!(%error, ?wait, "trying again");
            if let Some(observer) = &self.observer {
                observer.retrying(&error, wait);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// A GET of a path, without retries.
    pub(crate) async fn get_path(&self, path: &str) -> Result<Answer> {
        let request = self.request(Method::GET, path, "", Bytes::new())?;
        self.attempt(&request, Manner { repeat: Repeat::IfNotDone, wait: Duration::ZERO, most: REPLY_BYTES }).await
    }

    pub(crate) fn request(&self, method: Method, path: &str, query: &str, body: Bytes) -> Result<Request<Bytes>> {
        let endpoint = self.pool().connector().endpoint();
        let mut request = Request::builder()
            .method(method)
            .uri(endpoint.target(path, query))
            .header(HOST, &endpoint.authority)
            .header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &self.shared.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        request.body(body).map_err(|error| Error::setting(error.to_string()))
    }

    async fn attempt(&self, request: &Request<Bytes>, Manner { wait, most, .. }: Manner) -> Result<Answer> {
        let limit = self.shared.time_limit.saturating_add(wait);
        let reply = timeout(limit, self.pool().send(request, most))
            .await
            .unwrap_or_else(|_| Err(Error::unavailable(format!("no answer within {limit:?}"), true)))?;
        answer(reply)
    }
}

impl Shared {
    fn apart(&self) -> Self {
        Self { pool: self.pool.apart(), authorization: self.authorization.clone(), time_limit: self.time_limit }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("authority", &self.pool().connector().endpoint().authority)
            .finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// The namespace's token. Without one only a server in test mode answers.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// How long one attempt may take, including connecting. Default 30 s.
    #[must_use]
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How calls are retried. Default: for 30 s.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Most connections at once, not counting subscriptions. Further calls wait. Default 64.
    #[must_use]
    pub fn connections(mut self, most: usize) -> Self {
        self.pool.connections = most.max(1);
        self
    }

    /// How long an unused connection is kept. Default 60 s. A server closes it after 120 s.
    #[must_use]
    pub fn idle_limit(mut self, limit: Duration) -> Self {
        self.pool.idle = limit;
        self
    }

    /// How long opening a connection may take. Default 5 s.
    #[must_use]
    pub fn connect_limit(mut self, limit: Duration) -> Self {
        self.pool.connect = limit;
        self
    }

    /// The authorities that are trusted in place of the system's: their certificates in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn authorities(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.tls.authorities = Some(pem.into());
        self
    }

    /// The client's own certificate, for a server that asks for one, and its private key, both in PEM.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls.identity = Some((certificate.into(), key.into()));
        self
    }

    /// Makes the client, which connects at its first call.
    ///
    /// # Errors
    /// `Setting` if the URL, the token, a certificate or a key cannot be used.
    pub fn build(self) -> Result<Client> {
        let endpoint: Endpoint = self.url.parse()?;
        let authorization = self
            .token
            .map(|token| {
                let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                    .map_err(|_| Error::setting("the token holds characters that no token has"))?;
                value.set_sensitive(true);
                Ok::<_, Error>(value)
            })
            .transpose()?;
        let connector = Connector::new(
            endpoint,
            #[cfg(feature = "tls")]
            &self.tls,
        )?;
        let pool = Pool::new(connector, self.pool);
        let shared = Arc::new(Shared { pool, authorization, time_limit: self.time_limit });
        Ok(Client { shared, retry: self.retry, observer: None })
    }
}

impl std::fmt::Debug for ClientBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientBuilder").field("url", &self.url).finish_non_exhaustive()
    }
}

fn encoded(call: &impl Serialize) -> Result<Bytes> {
    serde_json::to_vec(call).map(Bytes::from).map_err(Error::encode)
}

fn answer(reply: Reply) -> Result<Answer> {
    if !reply.status.is_success() {
        return Err(Error::from_reply(reply.status.as_u16(), retry_after(&reply.headers), &reply.body));
    }
    let head = reply.headers.get("x-eventodb-head").and_then(|head| head.to_str().ok()?.parse().ok());
    let text = String::from_utf8(reply.body).map_err(|_| Error::protocol("the reply is not UTF-8"))?;
    Ok(Answer { text, head })
}

/// `Retry-After` in seconds, however many these are: [`RetryPolicy`] bounds the wait. The protocol does not use the form with
/// a date.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}
