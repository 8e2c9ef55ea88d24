//! One session of a worker: from its saved position until it is stopped or loses its checkpoint.

use std::time::Duration;

use eventodb_protocol::Timestamp;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::consumer::{Consumer, Failure, HandlerError};
use super::observer::{Lag, Reaction};
use super::{OnError, Settings, Summary, WorkerError};
use crate::client::Client;
use crate::error::Error;
use crate::message::{Message, Page};
use crate::new_message::NewMessage;
use crate::query::CategoryQuery;
use crate::retry::Backoff;
use crate::subscription::{Event, Subscribe, Subscription};

/// Messages that are given to a consumer at once. The worker checks the clock between two such pieces.
const RUN: usize = 256;
/// How often the head is requested while pages do not have it.
const HEAD_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct Session<'a, C> {
    client: &'a Client,
    consumer: &'a mut C,
    settings: &'a Settings,
    stop: &'a CancellationToken,
    summary: &'a mut Summary,
    query: CategoryQuery,
    /// Every message up to this global position is done.
    done: i64,
    saved: i64,
    /// Messages handled since the last save, and the time of the first of them.
    unsaved: usize,
    unsaved_since: Option<Instant>,
    /// The highest known global position.
    head: i64,
    head_asked: Option<Instant>,
    subscription: Option<Subscription>,
    link: Link,
    /// Whether the observer knows that the saved position is above the head.
    told_ahead: bool,
}

/// Whether the server can be reached, as last reported to the observer.
#[derive(Default)]
struct Link {
    is_lost: bool,
}

impl Link {
    fn lost(&mut self, settings: &Settings, error: &Error) {
        self.is_lost = true;
        settings.observer.disconnected(error);
    }

    fn works(&mut self, settings: &Settings) {
        if std::mem::take(&mut self.is_lost) {
            settings.observer.reconnected();
        }
    }
}

/// The result of a fetch: a page, and the head if it was requested.
type Fetched = (Page, Option<i64>);

/// A fetch in progress. It ends when it is dropped.
struct Fetch(JoinHandle<Result<Fetched, Error>>);

impl Drop for Fetch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<'a, C: Consumer> Session<'a, C> {
    pub(super) fn new(
        client: &'a Client,
        consumer: &'a mut C,
        settings: &'a Settings,
        stop: &'a CancellationToken,
        summary: &'a mut Summary,
    ) -> Self {
        let mut query = match &settings.categories[..] {
            [] => CategoryQuery::all(),
            categories => CategoryQuery::any_of(categories),
        };
        query = query.limit(settings.page);
        if let Some(group) = settings.group {
            query = query.group(group);
        }
        if let Some(types) = consumer.types().filter(|types| settings.filter_types && !types.is_empty()) {
            query = query.types(types);
        }
        Self {
            client,
            consumer,
            settings,
            stop,
            summary,
            query,
            done: -1,
            saved: -1,
            unsaved: 0,
            unsaved_since: None,
            head: 0,
            head_asked: None,
            subscription: None,
            link: Link::default(),
            told_ahead: false,
        }
    }

    /// Runs until the worker is stopped. `backoff` outlives the session and is reset by a save.
    pub(super) async fn run(&mut self, backoff: &mut Backoff) -> Result<(), WorkerError> {
        let loaded = self.consumer.load().await.map_err(WorkerError::Checkpoint)?;
        self.done = loaded.unwrap_or(self.settings.start.max(0) - 1);
        self.saved = self.done;
        self.summary.position = loaded;
        let result = self.consume(backoff).await;
        if let Err(WorkerError::Checkpoint(_)) = result {
            return result;
        }
        // The worker was stopped, or stops because of one message: everything before it is done. Positions without
        // anything to handle are saved only here, because saving them while the worker runs would be a write by an idle
        // worker.
        if self.unsaved > 0 || self.done - self.saved >= i64::try_from(self.settings.every).unwrap_or(i64::MAX) {
            self.save(backoff).await?;
        }
        result
    }

    async fn consume(&mut self, backoff: &mut Backoff) -> Result<(), WorkerError> {
        let mut fetch = self.fetch();
        while let Some((page, head)) = self.fetched(&mut fetch).await? {
            self.compare_with_head(page.head)?;
            let is_full = i64::try_from(page.messages.len()).expect("a page is small") >= self.settings.page;
            // A worker that waits reads again in any case, and needs no request more to know that it is at the end.
            let cut = if self.settings.until_caught_up { !page.is_last() } else { is_full };
            let next = page.next().unwrap_or(0).max(self.done + 1);
            self.head = self.head.max(next - 1).max(head.unwrap_or(0));
            let prefetch = cut.then(|| {
                // While the worker is far behind, it reads all the time and needs no pokes.
                self.subscription = None;
                self.fetch_from(next)
            });
            self.handle_page(page.messages, backoff).await?;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            self.done = self.done.max(next - 1);
            self.save_if_due(backoff, !cut).await?;
            fetch = match prefetch {
                Some(prefetch) => prefetch,
                None if self.settings.until_caught_up => return Ok(()),
                None => {
                    self.wait_for_news(backoff).await?;
                    self.fetch()
                }
            };
        }
        Ok(())
    }

    /// Tells of a saved position above the head. What is written between them would be passed over without a word.
    fn compare_with_head(&mut self, head: Option<i64>) -> Result<(), WorkerError> {
        let ahead = self.summary.position.zip(head).filter(|(saved, head)| saved > head);
        let was_told = std::mem::replace(&mut self.told_ahead, ahead.is_some());
        let Some((position, head)) = ahead else { return Ok(()) };
        let error = WorkerError::AheadOfHead { position, head };
        if self.settings.until_caught_up {
            return Err(error);
        }
        if !was_told {
            self.settings.observer.ahead_of_head(position, head);
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// Waits for the page in progress, and fetches it again after transient failures. None if the worker was stopped.
    async fn fetched(&mut self, fetch: &mut Fetch) -> Result<Option<Fetched>, WorkerError> {
        let mut backoff = crate::retry::RetryPolicy::forever().start();
        loop {
            let result = tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                result = &mut fetch.0 => result,
            };
            let error = match result {
                Ok(Ok(fetched)) => {
                    self.link.works(self.settings);
                    return Ok(Some(fetched));
                }
                Ok(Err(error)) => error,
                Err(error) => Error::protocol(format!("reading a page failed: {error}")),
            };
            let passes = match error {
                Error::Damaged { .. } => !self.settings.until_caught_up,
                Error::Protocol { .. } => true,
                _ => error.is_transient(),
            };
            let Some(wait) = passes.then(|| backoff.next_wait(error.retry_after())).flatten() else {
                return Err(WorkerError::Client(error));
            };
            self.link.lost(self.settings, &error);
            tracing::warn!(%error, ?wait, "cannot read, trying again");
            tokio::select! {
                () = self.stop.cancelled() => return Ok(None),
                () = tokio::time::sleep(wait) => {}
            }
            // A page that was fetched ahead begins directly after `done`.
            *fetch = self.fetch();
        }
    }

    fn fetch(&mut self) -> Fetch {
        self.fetch_from(self.done + 1)
    }

    fn fetch_from(&mut self, position: i64) -> Fetch {
        let (client, query) = (self.client.clone(), self.query.clone().from(position));
        let ask_head = self.head_asked.is_none_or(|asked| asked.elapsed() > HEAD_INTERVAL);
        if ask_head {
            self.head_asked = Some(Instant::now());
        }
        Fetch(tokio::spawn(async move {
            let page = client.category_get(&query).await?;
            let head = if ask_head && page.messages.len() > 1 { client.head().await.ok() } else { None };
            Ok((page, head))
        }))
    }

    async fn handle_page(&mut self, mut messages: Vec<Message>, backoff: &mut Backoff) -> Result<(), WorkerError> {
        messages.retain(|message| self.settings.is_news(message.stream()));
        let mut rest = &messages[..];
        while !rest.is_empty() && !self.stop.is_cancelled() {
            let run = rest.len().min(RUN).min(self.settings.every.saturating_sub(self.unsaved).max(1));
            let handled = self.consumer.handle(&rest[..run], self.stop).await;
            self.note_handled(&rest[..handled.count]);
            rest = &rest[handled.count..];
            match handled.failure {
                None => {}
                Some(Failure::Session(error)) => return Err(WorkerError::Checkpoint(error)),
                Some(Failure::Message(error)) => {
                    let (message, after) = rest.split_first().expect("a message that failed is there");
                    if self.retry_message(message, error).await? {
                        self.note_handled(std::slice::from_ref(message));
                        rest = after;
                    }
                }
            }
            self.save_if_due(backoff, false).await?;
        }
        Ok(())
    }

    fn note_handled(&mut self, messages: &[Message]) {
        let Some(last) = messages.last() else { return };
        self.done = last.global_position();
        self.unsaved += messages.len();
        self.unsaved_since.get_or_insert_with(Instant::now);
        self.summary.messages += messages.len() as u64;
        self.settings.observer.handled(messages.len(), self.lag(last));
    }

    fn lag(&self, last: &Message) -> Lag {
        let messages = u64::try_from(self.head - self.done).unwrap_or(0);
        let age = match last.time() {
            Ok(time) if messages > 0 => Timestamp::now().as_micros().saturating_sub(time.as_micros()),
            _ => 0,
        };
        Lag { messages, age: Duration::from_micros(u64::try_from(age).unwrap_or(0)) }
    }

    /// Retries a failed message until it is handled or given up, and then reacts as [`OnError`] says. Returns whether
    /// the message is done, which it is not if the worker was stopped meanwhile.
    async fn retry_message(&mut self, message: &Message, mut error: HandlerError) -> Result<bool, WorkerError> {
        let mut backoff = self.settings.retry.start();
        while let Some(wait) = backoff.next_wait(None) {
            self.settings.observer.failed(message, &error, Reaction::Retried);
            tokio::select! {
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(wait) => {}
            }
            let handled = self.consumer.handle(std::slice::from_ref(message), self.stop).await;
            match handled.failure {
                None => return Ok(handled.count == 1),
                Some(Failure::Session(error)) => return Err(WorkerError::Checkpoint(error)),
                Some(Failure::Message(again)) => error = again,
            }
        }
        self.give_up(message, error).await.map(|()| true)
    }

    async fn give_up(&mut self, message: &Message, error: HandlerError) -> Result<(), WorkerError> {
        let observer = &self.settings.observer;
        match &self.settings.on_error {
            OnError::Skip => observer.failed(message, &error, Reaction::Skipped),
            OnError::Park(stream) => {
                park(self.client, stream, message, &error).await.map_err(WorkerError::Client)?;
                observer.failed(message, &error, Reaction::Parked);
            }
            OnError::Stop => {
                observer.failed(message, &error, Reaction::Stopped);
                return Err(WorkerError::Handler {
                    stream: message.stream().to_owned(),
                    position: message.position(),
                    global_position: message.global_position(),
                    kind: message.kind().to_owned(),
                    source: error,
                });
            }
        }
        tracing::warn!(%error, stream = message.stream(), position = message.position(), "message not handled");
        Ok(())
    }

    async fn save_if_due(&mut self, backoff: &mut Backoff, idle: bool) -> Result<(), WorkerError> {
        let late = self.unsaved_since.is_some_and(|since| since.elapsed() >= self.settings.interval);
        let idle = idle && self.unsaved > 0 && self.consumer.saves_when_idle();
        if self.unsaved >= self.settings.every || late || idle {
            self.save(backoff).await?;
        }
        Ok(())
    }

    async fn save(&mut self, backoff: &mut Backoff) -> Result<(), WorkerError> {
        self.consumer.save(self.done).await.map_err(WorkerError::Checkpoint)?;
        backoff.reset();
        self.saved = self.done;
        self.summary.position = Some(self.done);
        (self.unsaved, self.unsaved_since) = (0, None);
        self.settings.observer.saved(self.done);
        Ok(())
    }

    /// Waits for a poke about an unread message, for the end of the poll interval, or for the stop. Saves a checkpoint
    /// when one is due.
    async fn wait_for_news(&mut self, backoff: &mut Backoff) -> Result<(), WorkerError> {
        let poll = Instant::now() + self.settings.poll;
        let mut subscription = match self.subscription.take() {
            Some(subscription) => subscription,
            None => self.subscribe(),
        };
        loop {
            let save = self.unsaved_since.map(|since| since + self.settings.interval);
            let until = save.map_or(poll, |save| save.min(poll));
            let told = tokio::select! {
                () = self.stop.cancelled() => break,
                error = self.consumer.taken() => return Err(WorkerError::Checkpoint(error)),
                told = timeout_at(until, next_poke(&mut subscription, self.settings, self.done, &mut self.link)) => told,
            };
            match told {
                Ok(Ok(position)) => {
                    self.head = self.head.max(position);
                    break;
                }
                // Without pokes the worker reads at each poll interval.
                Ok(Err(error)) => {
                    self.link.lost(self.settings, &error);
                    tracing::warn!(%error, "no pokes");
                    self.pause(until).await;
                    self.save_if_due(backoff, false).await?;
                    return Ok(());
                }
                Err(_) if until == poll => break,
                Err(_) => self.save_if_due(backoff, false).await?,
            }
        }
        self.subscription = Some(subscription);
        Ok(())
    }

    async fn pause(&mut self, until: Instant) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep_until(until) => {}
        }
    }

    fn subscribe(&self) -> Subscription {
        let mut subscribe = match &self.settings.categories[..] {
            [] => Subscribe::all(),
            categories => Subscribe::categories(categories),
        };
        if let Some(group) = self.settings.group.filter(|_| !self.settings.categories.is_empty()) {
            subscribe = subscribe.group(group);
        }
        self.client.subscribe(subscribe.from(self.done + 1))
    }
}

/// The global position of the next poked message after `done` that may have to be handled.
async fn next_poke(
    subscription: &mut Subscription,
    settings: &Settings,
    done: i64,
    link: &mut Link,
) -> Result<i64, Error> {
    loop {
        match subscription.next().await? {
            Event::Poke(poke) if poke.global_position > done && settings.is_news(&poke.stream) => {
                return Ok(poke.global_position);
            }
            Event::Connected => link.works(settings),
            Event::Disconnected(error) => link.lost(settings, &error),
            _ => {}
        }
    }
}

/// Writes a message that cannot be handled into `stream`. Its id there is derived from its own, so that it is there
/// once although this may be repeated.
async fn park(client: &Client, stream: &str, message: &Message, error: &HandlerError) -> Result<(), Error> {
    /// An arbitrary constant that makes the id of the parked message differ from the message's own.
    const PARKED: u128 = 0x7061_726b_6564_0000_0000_0000_0000_0000;
    let parked = NewMessage::from_json(message.kind(), message.data_json(), message.metadata_json())?
        .with_id(Uuid::from_u128(message.id().as_u128() ^ PARKED))
        .caused_by(message)
        .with_text("parkedBecause", &error.to_string());
    match client.write(stream, &parked, eventodb_protocol::Expected::Any).await {
        // The message was parked before with the text of another error.
        Ok(_) | Err(Error::IdConflict { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
