//! Workers within the test, where no process has to die.

use std::collections::HashMap;
use std::sync::Arc;

use eventodb_client::worker::{Context, GroupSummary, Worker, WorkerError};
use eventodb_client::{Client, Expected, Message, NewMessage};
use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{CATEGORY, PATIENCE};

/// What was handled, in this order.
#[derive(Clone, Default)]
pub(super) struct Journal(Arc<Mutex<Vec<Handled>>>);

#[derive(Clone, Debug)]
pub(super) struct Handled {
    /// Which worker did it.
    pub(super) worker: usize,
    pub(super) stream: String,
    /// The place in the stream, from 0.
    pub(super) number: i64,
    pub(super) position: i64,
    pub(super) at: Instant,
}

impl Journal {
    pub(super) fn note(&self, worker: usize, message: &Message) {
        let (stream, number) = (message.stream().to_owned(), message.position());
        let handled = Handled { worker, stream, number, position: message.global_position(), at: Instant::now() };
        self.0.lock().push(handled);
    }

    pub(super) fn all(&self) -> parking_lot::MutexGuard<'_, Vec<Handled>> {
        self.0.lock()
    }

    /// The numbers of each stream, in the order in which they were handled.
    pub(super) fn by_stream(&self) -> HashMap<String, Vec<i64>> {
        let mut streams: HashMap<String, Vec<i64>> = HashMap::new();
        for handled in self.all().iter() {
            streams.entry(handled.stream.clone()).or_default().push(handled.number);
        }
        streams
    }

    /// A worker that notes what it handles.
    pub(super) fn worker(&self, client: &Client, group: &str, worker: usize) -> Worker {
        let journal = self.clone();
        Worker::new(client, group).otherwise(move |message: Message, _: Context<_>| {
            journal.note(worker, &message);
            std::future::ready(Ok::<_, std::io::Error>(()))
        })
    }
}

/// A worker that runs.
pub(super) struct Run {
    stop: CancellationToken,
    task: JoinHandle<Result<GroupSummary, WorkerError>>,
}

impl Run {
    pub(super) fn start<M: eventodb_client::worker::Mode>(worker: Worker<M>) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(worker.run(stop.clone())), stop }
    }

    pub(super) async fn stop(self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it ends");
        ended.expect("it does not panic").expect("it ends well");
    }
}

/// Writes one message.
pub(super) async fn write(client: &Client, stream: &str) -> i64 {
    let message = NewMessage::new("Counted", json!({}));
    let written = client.write(&format!("{CATEGORY}-{stream}"), &message, Expected::Any).await;
    written.expect("written").global_position
}
