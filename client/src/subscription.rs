//! Subscriptions: a stream of events about written messages.
//!
//! A subscription reconnects by itself and continues after the last event that it received, so that no message is
//! missed. It reads only when the caller asks for the next event: a slow caller slows the server down, and nothing is
//! queued here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use eventodb_protocol::{ConsumerGroup, Timestamp};
use futures_core::Stream;
use hyper::body::{Body as _, Incoming};
use hyper::header::HeaderValue;
use hyper::{Method, Request};
use serde::Deserialize;
use tokio::time::{Instant, Sleep};

use crate::client::{Client, retry_after};
use crate::error::{Error, Result};
use crate::retry::{Backoff, RetryPolicy};
use crate::sse::{Frame, Parser};
use crate::transport::{Sender, full};

/// A message was written, or is in the requested history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Poke {
    /// Its stream.
    pub stream: String,
    /// Its position there.
    pub position: i64,
    /// Its global position.
    pub global_position: i64,
}

/// An event of a subscription.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// Connected, for the first time or again.
    Connected,
    /// There is a message.
    Poke(Poke),
    /// All messages up to this global position were poked. From here on messages are poked as they are written.
    CaughtUp(i64),
    /// There are no further messages up to this global position.
    Heartbeat(i64),
    /// The subscription begins after the head, which is at this position: the position is wrong, or the server lost its
    /// newest messages.
    AheadOfHead(i64),
    /// The connection broke with this error. The subscription is opening another one.
    Disconnected(Error),
}

/// What to subscribe to, and how. Given to [`Client::subscribe`].
#[derive(Clone, Debug)]
pub struct Subscribe {
    scope: Scope,
    start: Start,
    group: Option<ConsumerGroup>,
    coalesce: Duration,
    silence: Duration,
    retry: RetryPolicy,
}

#[derive(Clone, Debug)]
enum Scope {
    All,
    Stream(String),
    Categories(Vec<String>),
}

#[derive(Clone, Copy, Debug)]
enum Start {
    At(i64),
    Time(Timestamp),
    Now,
}

impl Subscribe {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            start: Start::At(0),
            group: None,
            coalesce: Duration::ZERO,
            silence: Duration::from_secs(45),
            retry: RetryPolicy::forever(),
        }
    }

    /// Every message of the namespace.
    pub fn all() -> Self {
        Self::new(Scope::All)
    }

    /// One stream.
    pub fn stream(name: impl Into<String>) -> Self {
        Self::new(Scope::Stream(name.into()))
    }

    /// One category.
    pub fn category(name: impl Into<String>) -> Self {
        Self::categories([name])
    }

    /// Several categories over one connection.
    pub fn categories<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        Self::new(Scope::Categories(names.into_iter().map(Into::into).collect()))
    }

    /// From this position, inclusive: a position in the stream for a stream, otherwise a global position. Default: the
    /// start.
    #[must_use]
    pub fn from(mut self, position: i64) -> Self {
        self.start = Start::At(position);
        self
    }

    /// From the first message at or after this time. If there is none yet, from now on.
    #[must_use]
    pub fn from_time(mut self, time: Timestamp) -> Self {
        self.start = Start::Time(time);
        self
    }

    /// Only what is written from now on.
    #[must_use]
    pub fn from_now(mut self) -> Self {
        self.start = Start::Now;
        self
    }

    /// Only streams of this member of a consumer group; for categories.
    #[must_use]
    pub fn group(mut self, group: ConsumerGroup) -> Self {
        self.group = Some(group);
        self
    }

    /// Lets the server merge the pokes within this time into the newest one per stream. Default: pokes are not merged.
    #[must_use]
    pub fn coalesce(mut self, window: Duration) -> Self {
        self.coalesce = window;
        self
    }

    /// How long a connection may be silent before it counts as dead. Default 45 s, three heartbeats.
    #[must_use]
    pub fn silence_limit(mut self, limit: Duration) -> Self {
        self.silence = limit;
        self
    }

    /// How to reconnect. Default: without a limit.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }
}

/// A running subscription. It ends when it is dropped, or with an error that reconnecting cannot cure.
pub struct Subscription {
    client: Client,
    options: Subscribe,
    state: State,
    backoff: Backoff,
    /// The last event id. The next connection continues after it.
    last_id: Option<i64>,
    /// The position for the next connection, for servers that ignore Last-Event-ID.
    position: i64,
    events: VecDeque<Event>,
}

enum State {
    Waiting(Pin<Box<Sleep>>),
    Connecting(Pin<Box<dyn Future<Output = Result<Connected>> + Send>>),
    Open(Box<Open>),
    Ended,
}

struct Connected {
    /// Keeps the connection open.
    sender: Sender,
    body: Incoming,
    /// The position at which it began, if that was not known before.
    from: Option<i64>,
}

struct Open {
    _sender: Sender,
    body: Incoming,
    parser: Parser,
    silence: Pin<Box<Sleep>>,
}

impl Client {
    /// Subscribes. The connection is opened when the first event is requested.
    pub fn subscribe(&self, options: Subscribe) -> Subscription {
        let position = match (&options.start, &options.scope) {
            (Start::Now, _) => -1,
            // With `all=true` the position 0 means "from now on".
            (Start::At(position), Scope::All) => (*position).max(1),
            (Start::At(position), _) => (*position).max(0),
            (Start::Time(_), _) => 0,
        };
        let backoff = options.retry.start();
        let mut subscription = Subscription {
            client: self.clone(),
            options,
            state: State::Ended,
            backoff,
            last_id: None,
            position,
            events: VecDeque::new(),
        };
        subscription.state = subscription.connecting();
        subscription
    }
}

impl Subscription {
    /// The next event. No event is lost if the future is dropped.
    ///
    /// # Errors
    /// `Unauthenticated`, `Forbidden`, `InvalidRequest` and others that reconnecting cannot cure, or `Unavailable` when the retry
    /// policy gives up. The subscription has then ended, and all further calls return `Closed`.
    pub async fn next(&mut self) -> Result<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await.unwrap_or(Err(Error::Closed))
    }

    /// The global position up to which all messages were poked, once the server has sent one.
    pub fn last_event_id(&self) -> Option<i64> {
        self.last_id
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event>>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let step = match &mut self.state {
                State::Ended => return Poll::Ready(None),
                State::Waiting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.state = self.connecting();
                    continue;
                }
                State::Connecting(connecting) => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(connected) => {
                        self.opened(connected);
                        continue;
                    }
                    Err(error) => Err(error),
                },
                State::Open(open) => ready!(open.poll_frames(cx, self.options.silence)),
            };
            match step.and_then(|frames| self.take_frames(frames)) {
                Ok(()) => {}
                Err(error) => {
                    if let Err(error) = self.reconnect(error) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
            }
        }
    }

    fn opened(&mut self, Connected { sender, body, from }: Connected) {
        if let Some(from) = from {
            self.position = from;
        }
        let silence = Box::pin(tokio::time::sleep(self.options.silence));
        self.state = State::Open(Box::new(Open { _sender: sender, body, parser: Parser::default(), silence }));
        self.events.push_back(Event::Connected);
    }

    /// After a failure: waits and connects again, or ends.
    fn reconnect(&mut self, error: Error) -> Result<()> {
        // During an upgrade another server may answer that is not ready yet, so that only definite refusals end the
        // subscription.
        let curable = error.is_transient() || matches!(error, Error::Protocol { .. });
        let wait = curable.then(|| self.backoff.next_wait(error.retry_after())).flatten();
        let Some(wait) = wait else {
            self.state = State::Ended;
            return Err(error);
        };
        tracing::debug!(%error, ?wait, "subscription lost, reconnecting");
        self.state = State::Waiting(Box::pin(tokio::time::sleep(wait)));
        self.events.push_back(Event::Disconnected(error));
        Ok(())
    }

    fn take_frames(&mut self, frames: Vec<Frame>) -> Result<()> {
        for frame in frames {
            // The server has answered: the next failure is the first of a new series.
            self.backoff.reset();
            if let Some(id) = &frame.id {
                let id = id.parse().map_err(|_| Error::protocol(format!("the event id {id:?} is no position")))?;
                self.last_id = Some(id);
                if !matches!(self.options.scope, Scope::Stream(_)) {
                    self.position = id + 1;
                }
            }
            for comment in &frame.comments {
                self.events.extend(comment_event(comment));
            }
            if let Some(data) = &frame.data {
                let poke: Poke = serde_json::from_str(data).map_err(|error| Error::protocol(error.to_string()))?;
                self.position = match self.options.scope {
                    Scope::Stream(_) => poke.position,
                    Scope::All | Scope::Categories(_) => poke.global_position,
                } + 1;
                self.events.push_back(Event::Poke(poke));
            }
        }
        Ok(())
    }

    fn connecting(&self) -> State {
        let client = self.client.clone();
        let (options, last_id, position) = (self.options.clone(), self.last_id, self.position);
        State::Connecting(Box::pin(async move {
            let from = if position < 0 { Some(first_from_now(&client, &options).await?) } else { None };
            let request = request(&client, &options, from.unwrap_or(position), last_id)?;
            let limit = options.silence;
            tokio::time::timeout(limit, open(&client, request))
                .await
                .unwrap_or_else(|_| Err(Error::unavailable(format!("no answer within {limit:?}"), false)))
                .map(|(sender, body)| Connected { sender, body, from })
        }))
    }
}

impl Stream for Subscription {
    type Item = Result<Event>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_event(cx)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("options", &self.options)
            .field("last_id", &self.last_id)
            .finish_non_exhaustive()
    }
}

impl Open {
    /// The frames of the next piece. Data that has arrived is read before the silence limit is checked, so that a
    /// caller that paused for long does not take the connection for dead.
    fn poll_frames(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<Result<Vec<Frame>>> {
        loop {
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.silence.as_mut().reset(Instant::now() + limit);
                    let Some(piece) = frame.data_ref() else { continue };
                    self.parser.feed(piece).map_err(|error| Error::protocol(error.to_string()))?;
                    let frames: Vec<_> = std::iter::from_fn(|| self.parser.next_frame()).collect();
                    if !frames.is_empty() {
                        return Poll::Ready(Ok(frames));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(Error::connection("the subscription was cut", false, error)));
                }
                Poll::Ready(None) => {
                    return Poll::Ready(Err(Error::unavailable("the server ended the subscription", false)));
                }
                Poll::Pending => {
                    ready!(self.silence.as_mut().poll(cx));
                    return Poll::Ready(Err(Error::unavailable(format!("nothing heard for {limit:?}"), false)));
                }
            }
        }
    }
}

/// The position at which a subscription "from now" begins: after the newest message at this moment.
async fn first_from_now(client: &Client, options: &Subscribe) -> Result<i64> {
    match &options.scope {
        Scope::Stream(stream) => Ok(client.stream_version(stream).await?.map_or(0, |version| version + 1)),
        Scope::All | Scope::Categories(_) => Ok(client.head().await? + 1),
    }
}

/// What is subscribed to, as a query string.
fn query(options: &Subscribe, position: i64) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    match &options.scope {
        Scope::All => query.append_pair("all", "true"),
        Scope::Stream(stream) => query.append_pair("stream", stream),
        Scope::Categories(names) => query.append_pair("category", &names.join(",")),
    };
    match options.start {
        Start::Time(time) => query.append_pair("time", &time.to_string()),
        Start::At(_) | Start::Now => query.append_pair("position", &position.max(0).to_string()),
    };
    if let Some(group) = options.group {
        query.append_pair("consumer", &group.member().to_string());
        query.append_pair("size", &group.size().to_string());
    }
    if !options.coalesce.is_zero() {
        query.append_pair("coalesce", &options.coalesce.as_millis().to_string());
    }
    query.finish()
}

fn request(client: &Client, options: &Subscribe, position: i64, last_id: Option<i64>) -> Result<Request<Bytes>> {
    let query = query(options, position);
    let mut request = client.request(Method::GET, "/subscribe", &query, Bytes::new())?;
    request.headers_mut().insert("accept", HeaderValue::from_static("text/event-stream"));
    if let Some(id) = last_id {
        request.headers_mut().insert("last-event-id", HeaderValue::from(id));
    }
    Ok(request)
}

async fn open(client: &Client, request: Request<Bytes>) -> Result<(Sender, Incoming)> {
    let mut sender = client.pool().open().await?;
    let response = sender
        .send_request(request.map(full))
        .await
        .map_err(|error| Error::connection("the connection was cut before the reply", false, error))?;
    let (parts, body) = response.into_parts();
    if parts.status.is_success() {
        return Ok((sender, body));
    }
    let body = crate::transport::error_body(body).await?;
    Err(Error::from_reply(parts.status.as_u16(), retry_after(&parts.headers), &body))
}

/// The event that a comment stands for, if it is a comment of the protocol.
fn comment_event(comment: &str) -> Option<Event> {
    let (word, head) = comment.split_once(' ')?;
    let head = head.trim().parse().ok()?;
    match word {
        "caught-up" => Some(Event::CaughtUp(head)),
        "heartbeat" => Some(Event::Heartbeat(head)),
        "ahead-of-head" => Some(Event::AheadOfHead(head)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_form_encoded() {
        let stream = Subscribe::stream("a b+ü-1&x").coalesce(Duration::from_millis(5));
        assert_eq!(query(&stream, -1), "stream=a+b%2B%C3%BC-1%26x&position=0&coalesce=5");
        let group = ConsumerGroup::new(1, 3).expect("a member");
        let categories = Subscribe::categories(["a", "b"]).group(group);
        assert_eq!(query(&categories, 7), "category=a%2Cb&position=7&consumer=1&size=3");
        assert_eq!(query(&Subscribe::all(), 1), "all=true&position=1");
        let since = Subscribe::all().from_time("2026-01-02T03:04:05Z".parse().expect("a time"));
        assert_eq!(query(&since, 0), "all=true&time=2026-01-02T03%3A04%3A05.000000Z");
    }
}
