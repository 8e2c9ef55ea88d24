//! Many messages in few requests: messages are collected for a moment and sent as batches, and each has its own result.
//!
//! Streams are spread over lanes by a hash of their name. A lane sends one batch at a time and repeats it until its
//! outcome is known. Messages of one stream are therefore written in the order in which they were given, also after
//! failures. Several lanes keep several batches in flight. Messages of different streams have no order among each
//! other.

mod batch;
mod lane;

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use eventodb_protocol::limits::{APPEND_MESSAGES, BODY_BYTES};
use eventodb_protocol::reply::Written;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::client::Client;
use crate::error::{Error, Result};
use crate::new_message::NewMessage;
use crate::retry::RetryPolicy;
use batch::Outcome;
use lane::Lane;

/// Settings of a [`BufferedWriter`].
#[derive(Clone, Copy, Debug)]
pub struct BufferSettings {
    /// A batch of this many messages is sent at once. At most 1,000. Default 500.
    pub messages: usize,
    /// A batch is sent when its first message has waited this long. Default 100 ms.
    pub delay: Duration,
    /// Batches in flight. Default 4; 1 uses a single connection.
    pub in_flight: usize,
    /// Bytes of messages that wait or are in flight. If they are used up, [`BufferedWriter::send`] waits. Default 32
    /// MiB.
    pub buffered_bytes: usize,
    /// How long a batch is retried. Default 5 min.
    pub retry: RetryPolicy,
}

impl Default for BufferSettings {
    fn default() -> Self {
        Self {
            messages: 500,
            delay: Duration::from_millis(100),
            in_flight: 4,
            buffered_bytes: 32 << 20,
            retry: RetryPolicy::default().give_up_after(Duration::from_secs(300)),
        }
    }
}

/// Writes messages in batches. Shared by reference between tasks.
///
/// If it is dropped, it sends its remaining messages in the background. [`BufferedWriter::close`] waits until they are
/// sent.
pub struct BufferedWriter {
    lanes: Vec<Arc<Lane>>,
    room: Arc<Semaphore>,
    room_bytes: usize,
}

/// The result of one message: a future of its positions.
#[must_use = "a failed write is told here and nowhere else"]
pub struct Receipt {
    outcome: Arc<Outcome>,
    index: usize,
    wait: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl BufferedWriter {
    /// A writer that sends through `client`. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// `Setting` if a setting is out of its bounds.
    pub fn new(client: &Client, settings: BufferSettings) -> Result<Self> {
        if !(1..=APPEND_MESSAGES).contains(&settings.messages) {
            return Err(Error::setting(format!("a batch has 1 to {APPEND_MESSAGES} messages")));
        }
        if settings.in_flight == 0 {
            return Err(Error::setting("at least one batch must be in flight"));
        }
        let room_bytes = settings.buffered_bytes.min(u32::MAX as usize >> 3);
        let client = client.with_retry_policy(settings.retry);
        let lanes = (0..settings.in_flight)
            .map(|_| {
                let lane = Arc::new(Lane::new(client.clone(), settings));
                tokio::spawn(lane.clone().run());
                lane
            })
            .collect();
        Ok(Self { lanes, room: Arc::new(Semaphore::new(room_bytes)), room_bytes })
    }

    /// Takes a message, and waits while the buffer is full. Messages of one stream are written in the order of these
    /// calls.
    ///
    /// # Errors
    /// `Encode` if the data is not a JSON object, `TooLarge` if the message alone fills the buffer or a request. The
    /// receipt has the errors that come later.
    pub async fn send<T: Serialize>(&self, stream: &str, message: &NewMessage<T>) -> Result<Receipt> {
        let text = serde_json::to_vec(&message.as_sent(true)?).map_err(Error::encode)?;
        let cost = text.len() + stream.len();
        if cost > self.room_bytes || cost > BODY_BYTES / 2 {
            return Err(Error::TooLarge { message: format!("a message of {cost} bytes does not fit the buffer") });
        }
        let permit = self.room(cost).await?;
        let (outcome, index) = self.lane(stream).push(stream, &text, permit);
        Ok(Receipt { outcome, index, wait: None })
    }

    /// Sends the messages taken so far without waiting for more, and returns when the server has answered all of them.
    pub async fn flush(&self) {
        let pending: Vec<_> = self.lanes.iter().flat_map(|lane| lane.flush()).collect();
        for outcome in pending {
            outcome.settled().await;
        }
    }

    /// Sends every message, waits for the answers, and ends the writer.
    pub async fn close(self) {
        self.flush().await;
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).map_err(|_| Error::setting("a message is larger than 4 GiB"))?;
        self.room.clone().acquire_many_owned(bytes).await.map_err(|_| Error::Closed)
    }

    fn lane(&self, stream: &str) -> &Lane {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(stream);
        &self.lanes[usize::try_from(hash % self.lanes.len() as u64).expect("smaller than the number of lanes")]
    }
}

impl Drop for BufferedWriter {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.close();
        }
    }
}

impl std::fmt::Debug for BufferedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BufferedWriter").field("lanes", &self.lanes.len()).finish_non_exhaustive()
    }
}

impl Receipt {
    /// The result of the message, if it is known already.
    pub fn try_get(&self) -> Option<Result<Written>> {
        self.outcome.get(self.index)
    }
}

impl Future for Receipt {
    type Output = Result<Written>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Some(result) = self.try_get() {
                return Poll::Ready(result);
            }
            let outcome = self.outcome.clone();
            let wait = self.wait.get_or_insert_with(|| Box::pin(async move { outcome.settled().await }));
            std::task::ready!(wait.as_mut().poll(cx));
            self.wait = None;
        }
    }
}

impl std::fmt::Debug for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receipt").field("result", &self.try_get()).finish_non_exhaustive()
    }
}
