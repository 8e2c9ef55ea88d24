//! A lane: the batches of some of the streams, sent one after the other.

use std::collections::VecDeque;
use std::sync::Arc;

use eventodb_schema::reply::{Appended, Written};
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
    open: Batch,
    full: VecDeque<Batch>,
    in_flight: Option<Arc<Outcome>>,
    /// The open batch is not to wait for more.
    hurry: bool,
    closed: bool,
}

impl Lane {
    pub(super) fn new(client: Client, settings: BufferSettings) -> Self {
        let open = Batch::new(Instant::now());
        let state = State { open, full: VecDeque::new(), in_flight: None, hurry: false, closed: false };
        Self { client, settings, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a message; answers where its result will be.
    pub(super) fn push(&self, stream: &str, text: &[u8], permit: OwnedSemaphorePermit) -> (Arc<Outcome>, usize) {
        let mut state = self.state.lock();
        if !state.open.has_room(stream, text.len()) {
            state.seal();
        }
        if state.open.is_empty() {
            state.open.opened = Instant::now();
        }
        let index = state.open.push(stream, text, permit);
        let outcome = state.open.outcome.clone();
        let full = state.open.len() >= self.settings.messages;
        if full {
            state.seal();
        }
        drop(state);
        // The lane's task looks at the first message to set its timer, and at a full batch to send it.
        if full || index == 0 {
            self.changed.notify_one();
        }
        (outcome, index)
    }

    /// Lets everything go at once; answers what is not settled yet.
    pub(super) fn flush(&self) -> Vec<Arc<Outcome>> {
        let mut state = self.state.lock();
        state.hurry = true;
        let mut pending: Vec<_> = state.in_flight.iter().cloned().collect();
        pending.extend(state.full.iter().map(|batch| batch.outcome.clone()));
        if !state.open.is_empty() {
            pending.push(state.open.outcome.clone());
        }
        drop(state);
        self.changed.notify_one();
        pending
    }

    /// No more messages come.
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

    /// The next batch, when it is full or has waited long enough.
    async fn next(&self) -> Option<Batch> {
        loop {
            let due = {
                let mut state = self.state.lock();
                state.in_flight = None;
                let due = state.open.opened + self.settings.delay;
                let now = state.hurry || state.closed || due <= Instant::now();
                if state.full.is_empty() && !state.open.is_empty() && now {
                    state.seal();
                }
                if let Some(batch) = state.full.pop_front() {
                    state.in_flight = Some(batch.outcome.clone());
                    return Some(batch);
                }
                if state.closed {
                    return None;
                }
                state.hurry = false;
                (!state.open.is_empty()).then_some(due)
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

    /// Sends a batch. One that the server refuses for what is in it is cut in halves, down to single
    /// messages, so that only the culprit fails. The halves go in order.
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
        let answer = self.client.call(batch.body(runs), Repeat::Always).await?;
        Batch::appended(runs, &answer.text)
    }
}

impl State {
    fn seal(&mut self) {
        let batch = std::mem::replace(&mut self.open, Batch::new(Instant::now()));
        self.full.push_back(batch);
    }
}

/// Whether the server may accept a part of what it refused.
fn is_about_content(error: &Error) -> bool {
    matches!(error, Error::InvalidRequest { .. } | Error::TooLarge { .. } | Error::IdConflict { .. })
}
