//! What an import reports while it runs, and how it ended.

use std::time::Duration;

use async_stream::try_stream;
use bytes::Bytes;
use eventodb_protocol::ErrorCode;
use futures_util::Stream;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::api::errors::Failure;
use crate::api::reply::Aborted;
use crate::observe::Cause;

/// Events that wait for the client to read them; when they are as many, later ones are left out.
const UNREAD: usize = 256;

/// Reports the progress of an import. It never waits for the client.
pub(super) struct Progress {
    events: mpsc::Sender<Bytes>,
    last: Option<oneshot::Sender<Bytes>>,
}

/// Why an import ended early.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) code: ErrorCode,
    pub(super) message: String,
    /// The number of the line at fault, or of the first line that was not stored; 0 if there is none.
    pub(super) line: u64,
    /// What went wrong inside, for the log.
    pub(super) cause: Option<Cause>,
}

#[derive(Serialize)]
struct Imported {
    imported: u64,
    gpos: i64,
}

#[derive(Serialize)]
struct Done {
    done: bool,
    imported: u64,
    elapsed: String,
}

#[derive(Serialize)]
struct Error<'a> {
    error: ErrorCode,
    message: &'a str,
    line: u64,
}

/// The two ends of an import's progress.
pub(super) fn channel() -> (Progress, impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static) {
    let (events, mut unread) = mpsc::channel(UNREAD);
    let (last, end) = oneshot::channel();
    let events_then_last = try_stream! {
        while let Some(event) = unread.recv().await {
            yield event;
        }
        yield end.await.map_err(|_| Aborted)?;
    };
    (Progress { events, last: Some(last) }, events_then_last)
}

impl Progress {
    /// This many records are stored, up to this global position.
    pub(super) fn imported(&mut self, imported: u64, gpos: i64) {
        // A client that does not read misses some of these, and sees from a later one how far it got.
        let _ = self.events.try_send(event(&Imported { imported, gpos }));
    }

    /// All records are stored.
    pub(super) fn done(self, imported: u64, elapsed: Duration) {
        let elapsed = format!("{:.1}s", elapsed.as_secs_f64());
        self.end(event(&Done { done: true, imported, elapsed }));
    }

    /// The import ended early.
    pub(super) fn failed(self, failed: &Failed) {
        self.end(event(&Error { error: failed.code, message: &failed.message, line: failed.line }));
    }

    fn end(mut self, event: Bytes) {
        if let Some(last) = self.last.take() {
            // It fails where the client has gone.
            let _ = last.send(event);
        }
    }
}

impl Failed {
    /// What is wrong with a line, for a person.
    pub(super) fn new(code: ErrorCode, message: impl Into<String>, line: u64) -> Self {
        Self { code, message: message.into(), line, cause: None }
    }

    /// A record that is in the way of one that is there.
    pub(super) fn position_exists(line: u64) -> Self {
        let message = "the position, the global position or the id of this record exists, or a later one does";
        Self::new(ErrorCode::PositionExists, message, line)
    }

    /// The server ends before the import.
    pub(super) fn stopping(line: u64) -> Self {
        let message = "the server is shutting down; without force, what was reported as imported is kept";
        Self::new(ErrorCode::ImportFailed, message, line)
    }

    /// The caller's token ended before the import, by itself or with its namespace.
    pub(super) fn token_ended(line: u64) -> Self {
        let message = "the token has ended meanwhile, or its namespace was deleted; without force, what was reported as \
                       imported is kept";
        Self::new(ErrorCode::ImportFailed, message, line)
    }

    /// A replacement by nothing, which is more often a file of another name than the wish to empty a namespace.
    pub(super) fn empty(line: u64) -> Self {
        let message =
            "the body has no record, and nothing was replaced; to empty a namespace, delete it and create it again";
        Self::new(ErrorCode::ImportFailed, message, line)
    }

    /// There is no memory for a line, and none came free in time.
    pub(super) fn no_room(line: u64) -> Self {
        let message = "the memory for what waits is used up, or your connection's or namespace's share of it; without \
                       force, what was reported as imported is kept: import the rest again";
        Self::new(ErrorCode::ImportFailed, message, line)
    }

    /// The store failed; the log tells why.
    pub(super) fn of_store(error: eventodb_store::Error, line: u64) -> Self {
        let failure = Failure::from(error);
        Self { cause: failure.cause().cloned(), ..Self::new(ErrorCode::ImportFailed, failure.message(), line) }
    }
}

fn event<T: Serialize>(value: &T) -> Bytes {
    let json = serde_json::to_string(value).expect("events have string keys only");
    format!("data: {json}\n\n").into()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn unread_progress_is_bounded_and_the_end_is_told() {
        let (mut progress, events) = channel();
        for batch in 1..=2 * UNREAD as u64 {
            progress.imported(batch * 1000, 7);
        }
        progress.done(3456, Duration::from_millis(2345));
        let events: Vec<_> = events.map(|event| event.expect("not aborted")).collect().await;
        assert_eq!(events.len(), UNREAD + 1);
        assert_eq!(events[0], "data: {\"imported\":1000,\"gpos\":7}\n\n");
        assert_eq!(events[UNREAD], "data: {\"done\":true,\"imported\":3456,\"elapsed\":\"2.3s\"}\n\n");
    }

    #[tokio::test]
    async fn an_import_that_vanishes_is_no_whole_reply() {
        let (progress, events) = channel();
        drop(progress);
        let events: Vec<_> = events.collect().await;
        assert!(matches!(events[..], [Err(Aborted)]));
    }

    #[tokio::test]
    async fn a_failure_is_one_event() {
        let (progress, events) = channel();
        progress.failed(&Failed::new(ErrorCode::InvalidJson, "a \"b\"", 15));
        let events: Vec<_> = events.map(|event| event.expect("not aborted")).collect().await;
        assert_eq!(events, ["data: {\"error\":\"INVALID_JSON\",\"message\":\"a \\\"b\\\"\",\"line\":15}\n\n"]);
    }
}
