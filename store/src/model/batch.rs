//! Messages that are committed together.

use std::sync::Arc;

use eventodb_protocol::Timestamp;
use eventodb_protocol::message::Message;
use foldhash::HashSet;
use uuid::Uuid;

use super::{Entry, Head};
use crate::groups::Change;

/// Messages to be committed together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tells this batch from every other, also from another server's under the same number.
    pub id: Uuid,
    /// The head that it follows; its own number is one higher than that one's.
    pub after: Head,
    /// By ascending global position, all above `after.position`. Their times count only with `keep_times`.
    pub messages: Vec<Message>,
    /// For each message whether it is the first of its stream; `false` in open streams, where it is not known yet.
    pub starts_stream: Vec<bool>,
    /// Streams whose version was not looked up, because the append finds it. The positions of their messages count from
    /// 0 at the end that it finds. Nothing is expected of such a stream, and none of its messages has an id that was
    /// given.
    pub open: HashSet<Arc<str>>,
    /// Whether messages keep their times, as in an import.
    pub keep_times: bool,
    /// What happens to groups in the same commit, by their names. If one of them has moved on, nothing is committed.
    pub groups: Vec<Change>,
}

impl Batch {
    /// The head once it is committed, but for its time, which is the database's.
    pub fn head(&self) -> Head {
        let position = self.messages.last().map_or(self.after.position, |last| last.global_position);
        Head { position, batch: self.after.batch + 1, id: self.id, time: self.after.time }
    }

    /// Its messages, written at `time` (or at their own times in an import).
    pub fn entries(&self, time: Timestamp) -> Vec<Arc<Entry>> {
        debug_assert!(self.open.is_empty(), "open positions are none to show");
        let messages = self.messages.iter().zip(&self.starts_stream);
        messages.map(|(message, &starts)| self.entry(message.clone(), starts, time)).collect()
    }

    /// The same if streams may be open: `positions` are those of all its messages, as the append found them.
    pub fn entries_at(&self, time: Timestamp, positions: &[i64]) -> Vec<Arc<Entry>> {
        debug_assert_eq!(positions.len(), self.messages.len(), "a batch is there wholly or not at all");
        let messages = self.messages.iter().zip(&self.starts_stream).zip(positions);
        messages
            .map(|((message, &starts), &position)| {
                // Written positions are dense: only the first of a stream has 0.
                let starts = starts || position == 0;
                self.entry(Message { position, ..message.clone() }, starts, time)
            })
            .collect()
    }

    fn entry(&self, mut message: Message, starts_stream: bool, time: Timestamp) -> Arc<Entry> {
        if !self.keep_times {
            message.time = time;
        }
        Arc::new(Entry::new(message, starts_stream))
    }
}
