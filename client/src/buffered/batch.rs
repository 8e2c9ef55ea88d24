//! One batch: messages as text, grouped by stream, and their results.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use eventodb_protocol::json;
use eventodb_protocol::limits::{APPEND_STREAMS, BODY_BYTES};
use eventodb_protocol::reply::{Appended, Written};
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use crate::error::{Error, Result};

/// The results of a batch's messages, once they are known.
#[derive(Default)]
pub(super) struct Outcome {
    results: OnceLock<Vec<Result<Written>>>,
    settled: Notify,
}

impl Outcome {
    pub(super) fn get(&self, index: usize) -> Option<Result<Written>> {
        self.results.get().map(|results| results[index].clone())
    }

    pub(super) async fn settled(&self) {
        let mut notified = std::pin::pin!(self.settled.notified());
        loop {
            notified.as_mut().enable();
            if self.results.get().is_some() {
                return;
            }
            notified.as_mut().await;
            notified.set(self.settled.notified());
        }
    }

    fn settle(&self, results: Vec<Result<Written>>) {
        self.results.set(results).expect("a batch is settled once");
        self.settled.notify_waiters();
    }
}

/// Messages that are sent in one request.
pub(super) struct Batch {
    pub(super) outcome: Arc<Outcome>,
    pub(super) opened: Instant,
    entries: Vec<Entry>,
    by_stream: HashMap<Arc<str>, usize>,
    messages: usize,
    bytes: usize,
    /// The room of the messages in the buffer. It is released when the batch is dropped.
    permit: Option<OwnedSemaphorePermit>,
}

struct Entry {
    stream: Arc<str>,
    /// The messages, each with a comma before it.
    text: Vec<u8>,
    messages: Vec<Piece>,
}

/// The end of a message's text in its entry, and the message's index in the batch.
#[derive(Clone, Copy)]
struct Piece {
    end: usize,
    index: usize,
}

/// Consecutive messages of one entry: those of a stream that go into one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    entry: usize,
    first: usize,
    count: usize,
}

impl Batch {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            outcome: Arc::default(),
            opened: now,
            entries: Vec::new(),
            by_stream: HashMap::new(),
            messages: 0,
            bytes: 0,
            permit: None,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    /// Whether the batch has room for a message of this stream and size, if a request has at most `most` messages.
    pub(super) fn has_room(&self, stream: &str, bytes: usize, most: usize) -> bool {
        self.messages < most
            && (self.entries.len() < APPEND_STREAMS || self.by_stream.contains_key(stream))
            && (self.bytes + bytes + stream.len() + 64 <= BODY_BYTES / 2 || self.messages == 0)
    }

    /// Whether the counts of messages and streams leave room for another stream.
    pub(super) fn takes_streams(&self, most: usize) -> bool {
        self.messages < most && self.entries.len() < APPEND_STREAMS
    }

    /// The streams in it.
    pub(super) fn streams(&self) -> impl Iterator<Item = &Arc<str>> {
        self.entries.iter().map(|entry| &entry.stream)
    }

    /// Adds a message, and returns its index in the batch.
    pub(super) fn push(&mut self, stream: &str, text: &[u8], permit: OwnedSemaphorePermit) -> usize {
        let entry = match self.by_stream.get(stream) {
            Some(&entry) => entry,
            None => {
                let stream: Arc<str> = stream.into();
                self.by_stream.insert(stream.clone(), self.entries.len());
                self.entries.push(Entry { stream, text: Vec::new(), messages: Vec::new() });
                self.entries.len() - 1
            }
        };
        let entry = &mut self.entries[entry];
        entry.text.push(b',');
        entry.text.extend_from_slice(text);
        let index = self.messages;
        entry.messages.push(Piece { end: entry.text.len(), index });
        self.messages += 1;
        self.bytes += text.len() + stream.len() + 64;
        match &mut self.permit {
            Some(all) => all.merge(permit),
            none => *none = Some(permit),
        }
        index
    }

    /// The whole batch, as one request.
    pub(super) fn runs(&self) -> Vec<Run> {
        let whole = |(entry, messages): (usize, &Entry)| Run { entry, first: 0, count: messages.messages.len() };
        self.entries.iter().enumerate().map(whole).collect()
    }

    /// The body of the call that appends `runs`.
    pub(super) fn body(&self, runs: &[Run]) -> Bytes {
        let mut out = Vec::with_capacity(self.bytes + 64);
        if let [run] = runs {
            out.extend_from_slice(b"[\"stream.append\",");
            json::write_string(&mut out, &self.entries[run.entry].stream);
            out.extend_from_slice(b",[");
            out.extend_from_slice(self.text(*run));
        } else {
            out.extend_from_slice(b"[\"streams.append\",[");
            for (at, run) in runs.iter().enumerate() {
                out.extend_from_slice(if at > 0 { b",{\"stream\":" } else { b"{\"stream\":" });
                json::write_string(&mut out, &self.entries[run.entry].stream);
                out.extend_from_slice(b",\"messages\":[");
                out.extend_from_slice(self.text(*run));
                out.extend_from_slice(b"]}");
            }
        }
        out.extend_from_slice(b"]]");
        out.into()
    }

    /// Reads the reply to [`Batch::body`].
    pub(super) fn appended(runs: &[Run], reply: &str) -> Result<Vec<Appended>> {
        let parsed = match runs {
            [_] => serde_json::from_str(reply).map(|one| vec![one]),
            _ => serde_json::from_str(reply),
        };
        let appended: Vec<Appended> = parsed.map_err(|error| Error::protocol(error.to_string()))?;
        if appended.len() != runs.len() {
            return Err(Error::protocol(format!("{} results for {} entries", appended.len(), runs.len())));
        }
        Ok(appended)
    }

    /// Stores the results of one request's messages at their indexes in the batch.
    pub(super) fn note(&self, runs: &[Run], result: &Result<Vec<Appended>>, results: &mut [Option<Result<Written>>]) {
        for (at, run) in runs.iter().enumerate() {
            let pieces = &self.entries[run.entry].messages[run.first..run.first + run.count];
            for (offset, piece) in pieces.iter().enumerate() {
                let offset = i64::try_from(offset).expect("a batch is small");
                results[piece.index] = Some(match result {
                    Ok(appended) => Ok(Written {
                        position: appended[at].first_position + offset,
                        global_position: appended[at].first_global_position + offset,
                    }),
                    Err(error) => Err(error.clone()),
                });
            }
        }
    }

    /// Sets the results, wakes every receipt that waits for them, and releases the room.
    pub(super) fn settle(self, results: Vec<Option<Result<Written>>>) {
        let results = results.into_iter().map(|result| result.unwrap_or(Err(Error::Closed))).collect();
        self.outcome.settle(results);
    }

    fn text(&self, run: Run) -> &[u8] {
        let entry = &self.entries[run.entry];
        let start = match run.first {
            0 => 0,
            first => entry.messages[first - 1].end,
        };
        // The text begins with a comma, which the first message must not have.
        &entry.text[start + 1..entry.messages[run.first + run.count - 1].end]
    }
}

/// Cuts `runs` into two halves, in order; `None` where there is only one message.
pub(super) fn halves(runs: &[Run]) -> Option<(Vec<Run>, Vec<Run>)> {
    let total: usize = runs.iter().map(|run| run.count).sum();
    if total < 2 {
        return None;
    }
    let (mut left, mut right, mut room) = (Vec::new(), Vec::new(), total / 2);
    for &Run { entry, first, count } in runs {
        let taken = count.min(room);
        room -= taken;
        if taken > 0 {
            left.push(Run { entry, first, count: taken });
        }
        if taken < count {
            right.push(Run { entry, first: first + taken, count: count - taken });
        }
    }
    Some((left, right))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::sync::Semaphore;

    use super::*;

    fn batch(streams: &[u8]) -> Batch {
        let mut batch = Batch::new(Instant::now());
        let room = Arc::new(Semaphore::new(1 << 20));
        for (index, stream) in streams.iter().enumerate() {
            let permit = room.clone().try_acquire_owned().expect("room");
            assert_eq!(batch.push(&format!("s-{stream}"), index.to_string().as_bytes(), permit), index);
        }
        batch
    }

    #[test]
    fn one_stream_is_one_stream_append() {
        let batch = batch(&[1, 1]);
        assert_eq!(&*batch.body(&batch.runs()), br#"["stream.append","s-1",[0,1]]"#);
    }

    #[test]
    fn several_streams_are_grouped() {
        let batch = batch(&[1, 2, 1]);
        let body = batch.body(&batch.runs());
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"["streams.append",[{"stream":"s-1","messages":[0,2]},{"stream":"s-2","messages":[1]}]]"#
        );
        let reply = r#"[{"firstPosition":5,"lastPosition":6,"firstGlobalPosition":10,"lastGlobalPosition":11},{"firstPosition":0,"lastPosition":0,"firstGlobalPosition":12,"lastGlobalPosition":12}]"#;
        let mut results = vec![None; 3];
        batch.note(&batch.runs(), &Batch::appended(&batch.runs(), reply), &mut results);
        let positions: Vec<_> = results.iter().flatten().flatten().map(|w| (w.position, w.global_position)).collect();
        assert_eq!(positions, [(5, 10), (0, 12), (6, 11)]);
    }

    proptest! {
        #[test]
        fn halving_keeps_every_message_and_the_order_in_each_stream(streams in proptest::collection::vec(0u8..5, 1..40)) {
            let batch = batch(&streams);
            let (mut todo, mut sent) = (vec![batch.runs()], Vec::new());
            while let Some(runs) = todo.pop() {
                match halves(&runs) {
                    Some((left, right)) => todo.extend([right, left]),
                    None => sent.push(batch.text(runs[0]).to_vec()),
                }
            }
            let sent: Vec<usize> =
                sent.iter().map(|text| String::from_utf8_lossy(text).parse().expect("an index")).collect();
            for stream in 0..5 {
                let of_stream = |index: &&usize| streams[**index] == stream;
                let all: Vec<usize> = (0..streams.len()).collect();
                let (sent, all): (Vec<_>, Vec<_>) =
                    (sent.iter().filter(of_stream).collect(), all.iter().filter(of_stream).collect());
                prop_assert_eq!(sent, all);
            }
        }
    }
}
