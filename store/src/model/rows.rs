//! Messages read from a database, packed: one text for all of them instead of four strings for each.

use eventodb_protocol::Timestamp;
use eventodb_protocol::message::MessageRef;
use uuid::Uuid;

/// A list of messages that share one buffer for their text.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    text: String,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    id: Uuid,
    position: i64,
    global_position: i64,
    time: Timestamp,
    /// The ends of stream, type, data and metadata in the text; each begins at the end of the one before.
    ends: [usize; 4],
    has_metadata: bool,
}

impl Rows {
    /// Appends a message.
    pub fn push(&mut self, message: MessageRef<'_>) {
        let metadata = message.metadata.unwrap_or_default();
        let mut ends = [0; 4];
        for (end, part) in ends.iter_mut().zip([message.stream, message.kind, message.data, metadata]) {
            self.text.push_str(part);
            *end = self.text.len();
        }
        self.rows.push(Row {
            id: message.id,
            position: message.position,
            global_position: message.global_position,
            time: message.time,
            ends,
            has_metadata: message.metadata.is_some(),
        });
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes of text in all of them.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }

    /// The messages, in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = MessageRef<'_>> + ExactSizeIterator {
        (0..self.rows.len()).map(|at| self.get(at))
    }

    /// The last message.
    pub fn last(&self) -> Option<MessageRef<'_>> {
        self.rows.len().checked_sub(1).map(|at| self.get(at))
    }

    fn get(&self, at: usize) -> MessageRef<'_> {
        let row = &self.rows[at];
        let start = at.checked_sub(1).map_or(0, |before| self.rows[before].ends[3]);
        let [stream, kind, data, metadata] = row.ends;
        MessageRef {
            id: row.id,
            stream: &self.text[start..stream],
            kind: &self.text[stream..kind],
            position: row.position,
            global_position: row.global_position,
            data: &self.text[kind..data],
            metadata: row.has_metadata.then(|| &self.text[data..metadata]),
            time: row.time,
        }
    }
}
