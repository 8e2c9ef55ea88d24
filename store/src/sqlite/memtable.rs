//! The index entries of messages that are in the log but not in the index yet.
//!
//! The memtable gives the answers that the index will give once it has caught up: positions by stream, by category and
//! by id. Texts stay in the log. An entry leaves the memtable only after the index has it. A read must therefore look
//! here **first** and into the index afterwards; in the other order it would miss an entry that moved between its two
//! looks. [`Memtable::floor`] is the lowest global position that is here.

use std::collections::VecDeque;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;

use eventodb_protocol::group::stream_hash;
use eventodb_protocol::message::Message;
use eventodb_protocol::name;
use foldhash::HashMap;
use uuid::Uuid;

/// The columns that the index keeps of one message.
#[derive(Clone, Debug)]
pub(super) struct IndexEntry {
    pub(super) global_position: i64,
    pub(super) stream: Arc<str>,
    pub(super) position: i64,
    pub(super) starts_stream: bool,
    pub(super) id: Uuid,
    pub(super) hashes: Hashes,
}

/// The columns that filters are answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hashes {
    /// [`stream_hash`]: decides the member of a consumer group.
    pub(super) stream: i64,
    /// [`text_hash`] of the type.
    pub(super) kind: u32,
    /// [`text_hash`] of the correlation category.
    pub(super) correlation: Option<u32>,
}

impl IndexEntry {
    pub(super) fn of(message: &Message, correlation: Option<&str>, starts_stream: bool) -> Self {
        Self {
            global_position: message.global_position,
            stream: message.stream.clone(),
            position: message.position,
            starts_stream,
            id: message.id,
            hashes: Hashes {
                stream: stream_hash(&message.stream),
                kind: text_hash(&message.kind),
                correlation: correlation.map(text_hash),
            },
        }
    }

    pub(super) fn in_stream(&self) -> StreamEntry {
        StreamEntry { position: self.position, global_position: self.global_position, kind: self.hashes.kind }
    }

    pub(super) fn in_category(&self) -> CategoryEntry {
        CategoryEntry { global_position: self.global_position, hashes: self.hashes }
    }
}

/// A 32-bit hash of a type or category. Two texts may have the same hash, so the log
/// confirms each match.
///
/// FNV-1a; source: <http://www.isthe.com/chongo/tech/comp/fnv/>.
pub(super) fn text_hash(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Entries that follow each other in the log. They are shared with the indexer, so that it copies none.
pub(super) type Chunk = Arc<Vec<IndexEntry>>;

/// A chunk has at most this number of entries.
const CHUNK: usize = 512;

/// The index entries that are not in the index yet.
#[derive(Debug, Default)]
pub(super) struct Memtable {
    chunks: VecDeque<Chunk>,
    /// Number of entries of the first chunk that have left.
    gone: usize,
    /// Emptied chunks, whose memory new chunks use.
    spare: Vec<Vec<IndexEntry>>,
    len: usize,
    /// Everything up to this global position is in the index and not here.
    completion: i64,
    ids: HashMap<Uuid, i64>,
    streams: HashMap<Arc<str>, VecDeque<StreamEntry>>,
    categories: HashMap<Box<str>, CategoryEntries>,
    new_streams: u64,
}

/// One message of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamEntry {
    pub(super) position: i64,
    pub(super) global_position: i64,
    pub(super) kind: u32,
}

/// One message of a category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CategoryEntry {
    pub(super) global_position: i64,
    pub(super) hashes: Hashes,
}

/// The messages of a category.
#[derive(Debug, Default)]
pub(super) struct CategoryEntries {
    pub(super) entries: VecDeque<CategoryEntry>,
    pub(super) new_streams: u64,
}

impl Memtable {
    pub(super) fn new(completion: i64) -> Self {
        Self { completion, ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Everything below this global position is in the index; everything from it on is here.
    pub(super) fn floor(&self) -> i64 {
        self.chunks.front().map_or(i64::MAX, |chunk| chunk[self.gone].global_position)
    }

    /// Global position of the last message that left.
    pub(super) fn completion(&self) -> i64 {
        self.completion
    }

    /// Streams whose first message is here.
    pub(super) fn new_streams(&self) -> u64 {
        self.new_streams
    }

    pub(super) fn push(&mut self, entry: IndexEntry) {
        self.ids.insert(entry.id, entry.global_position);
        let stream = self.streams.entry(entry.stream.clone()).or_default();
        stream.push_back(entry.in_stream());
        let new = u64::from(entry.starts_stream);
        let category = name::category(&entry.stream);
        let category = match self.categories.get_mut(category) {
            Some(entries) => entries,
            None => self.categories.entry(category.into()).or_default(),
        };
        category.entries.push_back(entry.in_category());
        category.new_streams += new;
        self.new_streams += new;
        self.len += 1;
        match self.chunks.back_mut().and_then(Arc::get_mut).filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(entry),
            None => {
                let mut chunk = self.spare.pop().unwrap_or_default();
                chunk.push(entry);
                self.chunks.push_back(Arc::new(chunk));
            }
        }
    }

    /// The first chunks, for the indexer, with at least `count` entries in all; if there are fewer entries, all chunks.
    /// The number counts the entries at the start of the first chunk that have left.
    pub(super) fn first(&self, count: usize) -> (Vec<Chunk>, usize) {
        let mut wanted = count.saturating_add(self.gone);
        let is_wanted = |chunk: &&Chunk| {
            let is_wanted = wanted > 0;
            wanted = wanted.saturating_sub(chunk.len());
            is_wanted
        };
        (self.chunks.iter().take_while(is_wanted).cloned().collect(), self.gone)
    }

    /// Drops up to `count` entries at or below `completion`, which the index holds now. Returns whether some are left.
    pub(super) fn forget(&mut self, completion: i64, count: usize) -> bool {
        let mut left = count;
        while left > 0 && self.begins_within(completion) {
            let chunk = Arc::clone(&self.chunks[0]);
            let leaving = chunk[self.gone..].iter().take(left).take_while(|entry| entry.global_position <= completion);
            let before = self.gone;
            for entry in leaving {
                self.forget_one(entry);
                self.gone += 1;
            }
            left -= self.gone - before;
            if self.gone == chunk.len() {
                self.chunks.pop_front();
                self.gone = 0;
                if let Some(mut room) = Arc::into_inner(chunk) {
                    room.clear();
                    self.spare.push(room);
                }
            }
        }
        self.begins_within(completion)
    }

    /// Whether there is an entry at or below this global position.
    fn begins_within(&self, completion: i64) -> bool {
        !self.chunks.is_empty() && self.floor() <= completion
    }

    fn forget_one(&mut self, entry: &IndexEntry) {
        self.len -= 1;
        self.completion = entry.global_position;
        self.ids.remove(&entry.id);
        if let MapEntry::Occupied(mut stream) = self.streams.entry(entry.stream.clone()) {
            stream.get_mut().pop_front();
            if stream.get().is_empty() {
                stream.remove();
            }
        }
        let new = u64::from(entry.starts_stream);
        let category = name::category(&entry.stream);
        if let Some(entries) = self.categories.get_mut(category) {
            entries.entries.pop_front();
            entries.new_streams -= new;
            if entries.entries.is_empty() {
                self.categories.remove(category);
            }
        }
        self.new_streams -= new;
    }

    /// The global position of the message with this id.
    pub(super) fn find(&self, id: &Uuid) -> Option<i64> {
        self.ids.get(id).copied()
    }

    /// The messages of a stream, ascending.
    pub(super) fn stream(&self, stream: &str) -> Option<&VecDeque<StreamEntry>> {
        self.streams.get(stream)
    }

    /// The messages of a category, ascending.
    pub(super) fn category(&self, category: &str) -> Option<&CategoryEntries> {
        self.categories.get(category)
    }

    pub(super) fn categories(&self) -> impl Iterator<Item = (&str, &CategoryEntries)> {
        self.categories.iter().map(|(name, entries)| (&**name, entries))
    }

    /// The entries at or below a global position, ascending.
    pub(super) fn up_to(&self, global_position: i64) -> impl Iterator<Item = &IndexEntry> {
        let entries = self.chunks.iter().flat_map(|chunk| &chunk[..]).skip(self.gone);
        entries.take_while(move |entry| entry.global_position <= global_position)
    }

    /// Names of the streams whose first message is here.
    pub(super) fn started_streams(&self) -> impl Iterator<Item = &Arc<str>> {
        let entries = self.chunks.iter().flat_map(|chunk| &chunk[..]).skip(self.gone);
        entries.filter(|entry| entry.starts_stream).map(|entry| &entry.stream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(global_position: i64) -> IndexEntry {
        IndexEntry {
            global_position,
            stream: format!("account-{}", global_position % 3).into(),
            position: global_position / 3,
            starts_stream: global_position < 3,
            id: Uuid::from_u128(global_position.unsigned_abs().into()),
            hashes: Hashes { stream: 1, kind: 1, correlation: None },
        }
    }

    fn positions((chunks, gone): &(Vec<Chunk>, usize)) -> Vec<i64> {
        chunks.iter().flat_map(|chunk| &chunk[..]).skip(*gone).map(|entry| entry.global_position).collect()
    }

    #[test]
    fn what_the_indexer_has_taken_stays_as_it_is_while_entries_come_and_go() {
        let (mut memtable, chunk) = (Memtable::new(-1), CHUNK as i64);
        (0..3 * chunk / 2).for_each(|position| memtable.push(entry(position)));
        let all: Vec<i64> = (0..3 * chunk / 2).collect();
        let taken = memtable.first(CHUNK + 1);
        assert_eq!(positions(&taken), all);
        assert_eq!(positions(&memtable.first(CHUNK)), all[..CHUNK]);

        (3 * chunk / 2..2 * chunk).for_each(|position| memtable.push(entry(position)));
        assert_eq!(positions(&taken), all);
        let last = all[all.len() - 1];
        let mut steps = 1;
        while memtable.forget(last, 100) {
            assert_eq!((memtable.floor(), memtable.completion()), (steps * 100, steps * 100 - 1));
            assert_eq!(positions(&memtable.first(1))[0], memtable.floor());
            steps += 1;
        }
        assert_eq!((memtable.floor(), memtable.completion(), memtable.len()), (last + 1, last, CHUNK / 2));
        assert_eq!(positions(&taken), all);
        assert_eq!(positions(&memtable.first(usize::MAX)), (last + 1..2 * chunk).collect::<Vec<_>>());
        assert_eq!(memtable.started_streams().count(), 0);
        assert_eq!(memtable.find(&entry(last).id), None);
        assert_eq!(memtable.find(&entry(last + 1).id), Some(last + 1));

        assert!(!memtable.forget(i64::MAX - 1, usize::MAX));
        assert_eq!((memtable.floor(), memtable.completion(), memtable.len()), (i64::MAX, 2 * chunk - 1, 0));
        assert!(memtable.first(1).0.is_empty());
        assert!(memtable.categories().next().is_none());
    }

    #[test]
    fn entries_that_come_while_the_last_chunk_leaves_are_the_next_batch() {
        let mut memtable = Memtable::new(-1);
        (0..3).for_each(|position| memtable.push(entry(position)));
        drop(memtable.first(10));
        assert!(memtable.forget(2, 1));
        memtable.push(entry(3));
        assert!(!memtable.forget(2, 10));
        assert_eq!(positions(&memtable.first(10)), [3]);
        assert_eq!((memtable.floor(), memtable.len()), (3, 1));
    }
}
