//! A lane: the batches of some of the streams, sent one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use eventodb_protocol::reply::{Appended, Written};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::BufferSettings;
use super::batch::{Batch, Outcome, Run, halves};
use crate::client::{Client, Repeat};
use crate::error::{Error, Result};

pub(super) struct Lane {
    client: Client,
    settings: BufferSettings,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// Batches that wait, oldest first. A message is added only to the newest batch that has its stream.
    queue: VecDeque<Batch>,
    /// The number of the oldest batch in the queue. Batches are counted from 0.
    oldest: u64,
    /// By stream, the number of the newest batch in the queue that has it.
    newest_with: HashMap<Arc<str>, u64>,
    /// No batch before this number has room for another stream.
    open_from: u64,
    in_flight: Option<Arc<Outcome>>,
    /// Batches are sent without waiting for more messages.
    hurry: bool,
    closed: bool,
}

impl Lane {
    pub(super) fn new(client: Client, settings: BufferSettings) -> Self {
        let state = State {
            queue: VecDeque::new(),
            oldest: 0,
            newest_with: HashMap::new(),
            open_from: 0,
            in_flight: None,
            hurry: false,
            closed: false,
        };
        Self { client, settings, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a message. Returns the outcome that will have its result, and its index there.
    pub(super) fn push(&self, stream: &str, text: &[u8], permit: OwnedSemaphorePermit) -> (Arc<Outcome>, usize) {
        let most = self.settings.messages;
        let mut state = self.state.lock();
        let at = state.place(stream, text.len(), most);
        let batch = &mut state.queue[at];
        let index = batch.push(stream, text, permit);
        let (outcome, full) = (batch.outcome.clone(), batch.len() >= most);
        drop(state);
        // The lane's task must see the first message, to set its timer, and a full batch, to send it.
        if full || index == 0 {
            self.changed.notify_one();
        }
        (outcome, index)
    }

    /// Sends all batches at once, and returns the outcomes that are not settled yet.
    pub(super) fn flush(&self) -> Vec<Arc<Outcome>> {
        let mut state = self.state.lock();
        state.hurry = true;
        let mut pending: Vec<_> = state.in_flight.iter().cloned().collect();
        pending.extend(state.queue.iter().map(|batch| batch.outcome.clone()));
        drop(state);
        self.changed.notify_one();
        pending
    }

    /// Closes the lane: no more messages are added.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_one();
    }

    /// Sends batches until the lane is closed and empty.
    pub(super) async fn run(self: Arc<Self>) {
        while let Some(batch) = self.next().await {
            let results = self.send(&batch).await;
            batch.settle(results);
        }
    }

    /// The next batch, once it is full, has waited long enough, or a later one was begun because it had no room.
    async fn next(&self) -> Option<Batch> {
        loop {
            let due = {
                let mut state = self.state.lock();
                state.in_flight = None;
                let due = state.queue.front().map(|batch| batch.opened + self.settings.delay);
                let now = state.hurry
                    || state.closed
                    || state.queue.len() > 1
                    || state.queue.front().is_some_and(|batch| batch.len() >= self.settings.messages)
                    || due.is_some_and(|due| due <= Instant::now());
                if now && let Some(batch) = state.take() {
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
                state.hurry = false;
                due
            };
            match due {
                None => self.changed.notified().await,
                Some(due) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
            }
        }
    }

    /// Sends a batch. If the server refuses its content, the batch is cut in halves, down to single messages, so that
    /// only the bad message fails. The halves are sent in order.
    async fn send(&self, batch: &Batch) -> Vec<Option<Result<Written>>> {
        let mut results = vec![None; batch.len()];
        let mut todo = vec![batch.runs()];
        while let Some(runs) = todo.pop() {
            let result = self.append(batch, &runs).await;
            match (&result, halves(&runs)) {
                (Err(error), Some((left, right))) if is_about_content(error) => todo.extend([right, left]),
                _ => batch.note(&runs, &result, &mut results),
            }
        }
        results
    }

    async fn append(&self, batch: &Batch, runs: &[Run]) -> Result<Vec<Appended>> {
        let answer = self.client.send(batch.body(runs), Repeat::Always).await?;
        Batch::appended(runs, &answer.text)
    }
}

impl State {
    /// The index in the queue of the batch for a message of `stream`: the newest batch that has the stream, if it has
    /// room, otherwise the first later batch with room. Batches therefore fill up although a request names few streams,
    /// and no message overtakes another one of its stream.
    fn place(&mut self, stream: &str, bytes: usize, most: usize) -> usize {
        let end = self.oldest + self.queue.len() as u64;
        let newest = self.newest_with.get(stream).copied();
        if let Some(newest) = newest
            && self.batch(newest).has_room(stream, bytes, most)
        {
            return self.index(newest);
        }
        while self.open_from < end && !self.batch(self.open_from).takes_streams(most) {
            self.open_from += 1;
        }
        let from = newest.map_or(self.open_from, |newest| self.open_from.max(newest + 1));
        let found = (from..end).find(|&number| self.batch(number).has_room(stream, bytes, most));
        let number = found.unwrap_or_else(|| {
            self.queue.push_back(Batch::new(Instant::now()));
            end
        });
        self.newest_with.insert(stream.into(), number);
        self.index(number)
    }

    /// Takes the oldest batch out of the queue. It is then in flight.
    fn take(&mut self) -> Option<Batch> {
        let batch = self.queue.pop_front()?;
        let number = self.oldest;
        self.oldest += 1;
        self.open_from = self.open_from.max(self.oldest);
        for stream in batch.streams() {
            if self.newest_with.get(stream) == Some(&number) {
                self.newest_with.remove(stream);
            }
        }
        self.in_flight = Some(batch.outcome.clone());
        Some(batch)
    }

    fn index(&self, number: u64) -> usize {
        usize::try_from(number - self.oldest).expect("a queue's index fits")
    }

    fn batch(&self, number: u64) -> &Batch {
        &self.queue[self.index(number)]
    }
}

/// Whether the server may accept a part of what it refused.
fn is_about_content(error: &Error) -> bool {
    matches!(error, Error::InvalidRequest { .. } | Error::TooLarge { .. } | Error::IdConflict { .. })
}
