//! Runs: messages that follow each other in a stream or in a category, packed into one row of the index.
//!
//! Each row costs about the same, however much it holds, and a batch has many messages of each category and often
//! several of a stream. The key of a run is its *last* position. So the run that holds a position is the first one at
//! or after it, and the end of a stream is read without unpacking.
//!
//! ```text
//! run      = checksum entry*      from the last message to the first
//! entry    = varint(distance in the stream) varint(distance) type                in a stream's run
//!          | varint(2 × distance + has a correlation) stream type [correlation]  in a category's run
//! distance = to the message of the entry before, in positions downwards; the first entry has 0
//! checksum = CRC-32 of the integers of the row and of the entries
//! varint   = LEB128: seven bits a byte, the lowest first; the highest bit tells that more follow
//! ```
//!
//! Integers and hashes (see [`Hashes`]) are little-endian, 8 bytes a stream and an integer, 4 bytes all else.

use rusqlite::{Error, Row, ffi};

use super::memtable::{CategoryEntry, Hashes, IndexEntry, StreamEntry};

const CHECKSUM_BYTES: usize = 4;
/// About the number of runs that are handed over at a time.
const RUNS: usize = 64;

/// An entry of a run: one message of a stream or of a category.
pub(super) trait Entry: Copy {
    /// Bytes after which a run is full.
    const FULL: usize;

    fn of(message: &IndexEntry) -> Self;

    /// The columns of a row before the packed run: integers of its last message.
    fn integers(self) -> impl AsRef<[i64]>;

    /// The last message of a row, from its columns.
    fn last(row: &Row<'_>) -> rusqlite::Result<Self>;

    fn precedes(self, other: Self) -> bool;

    /// Appends it; `after` is the entry before.
    fn pack(self, after: Self, packed: &mut Vec<u8>);

    /// Takes an entry from the front of the packed bytes; `None` if they are no such entry.
    fn unpack(after: Self, packed: &mut &[u8]) -> Option<Self>;
}

/// A row of the index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Run<E> {
    /// The stream or the category.
    pub(super) id: i64,
    pub(super) first: E,
    pub(super) last: E,
    pub(super) packed: Vec<u8>,
}

/// Packs messages, which come by stream or category and then in the order of the log. Runs are handed over in portions,
/// because those of a whole batch would take most of its memory.
///
/// # Errors
/// Those of `take`; a violated constraint if the positions of a stream do not ascend.
pub(super) fn pack<'a, E: Entry>(
    messages: impl Iterator<Item = (i64, &'a IndexEntry)>,
    mut take: impl FnMut(&[Run<E>]) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let (mut runs, mut entries) = (Vec::new(), Vec::new());
    let mut messages = messages.peekable();
    while let Some((id, first)) = messages.next() {
        entries.clear();
        entries.push(E::of(first));
        while let Some((_, message)) = messages.next_if(|(next, _)| *next == id) {
            entries.push(E::of(message));
        }
        if !entries.is_sorted_by(|a, b| a.precedes(*b)) {
            return Err(twice());
        }
        pack_one(id, &entries, &mut runs);
        if runs.len() >= RUNS {
            take(&runs)?;
            runs.clear();
        }
    }
    take(&runs)
}

/// Appends the runs of one stream or category.
fn pack_one<E: Entry>(id: i64, entries: &[E], runs: &mut Vec<Run<E>>) {
    let before = runs.len();
    let mut rest = entries;
    while let Some(&last) = rest.last() {
        let mut packed = vec![0; CHECKSUM_BYTES];
        let mut first = last;
        while packed.len() < E::FULL
            && let Some((&entry, lower)) = rest.split_last()
        {
            entry.pack(first, &mut packed);
            (first, rest) = (entry, lower);
        }
        let checksum = checksum(id, last, &packed[CHECKSUM_BYTES..]);
        packed[..CHECKSUM_BYTES].copy_from_slice(&checksum.to_le_bytes());
        runs.push(Run { id, first, last, packed });
    }
    runs[before..].reverse();
}

/// Appends the messages of a run, from its last to its first. The row's columns begin with those of
/// `sql/stream_forward.sql` or `sql/category_forward.sql`.
///
/// # Errors
/// SQLite's; `QueryReturnedNoRows` if the packed bytes were changed.
pub(super) fn unpack<E: Entry>(id: i64, row: &Row<'_>, entries: &mut Vec<E>) -> rusqlite::Result<()> {
    let last = E::last(row)?;
    let packed = row.get_ref(last.integers().as_ref().len())?.as_blob()?;
    unpack_bytes(id, last, packed, entries).ok_or(Error::QueryReturnedNoRows)
}

fn unpack_bytes<E: Entry>(id: i64, last: E, packed: &[u8], entries: &mut Vec<E>) -> Option<()> {
    let (sum, mut packed) = packed.split_first_chunk()?;
    if u32::from_le_bytes(*sum) != checksum(id, last, packed) {
        return None;
    }
    let mut after = last;
    while !packed.is_empty() {
        after = E::unpack(after, &mut packed)?;
        entries.push(after);
    }
    Some(())
}

/// The error that the index's primary keys would report.
pub(super) fn twice() -> Error {
    let message = "a stream has a position twice".to_owned();
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CONSTRAINT), Some(message))
}

fn checksum<E: Entry>(id: i64, last: E, packed: &[u8]) -> u32 {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&id.to_le_bytes());
    last.integers().as_ref().iter().for_each(|integer| checksum.update(&integer.to_le_bytes()));
    checksum.update(packed);
    checksum.finalize()
}

impl Entry for StreamEntry {
    /// With one more entry and the rest of its row, a run stays below the 231 bytes that SQLite keeps on a page of the
    /// index. Further bytes would take a page of their own.
    const FULL: usize = 160;

    fn of(message: &IndexEntry) -> Self {
        message.in_stream()
    }

    fn integers(self) -> impl AsRef<[i64]> {
        [self.position, self.global_position]
    }

    fn last(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { position: row.get(0)?, global_position: row.get(1)?, kind: 0 })
    }

    fn precedes(self, other: Self) -> bool {
        self.position < other.position
    }

    fn pack(self, after: Self, packed: &mut Vec<u8>) {
        put_varint(packed, after.position.abs_diff(self.position));
        put_varint(packed, after.global_position.abs_diff(self.global_position));
        put_hash(packed, self.kind);
    }

    fn unpack(after: Self, packed: &mut &[u8]) -> Option<Self> {
        Some(Self {
            position: after.position.checked_sub_unsigned(varint(packed)?)?,
            global_position: after.global_position.checked_sub_unsigned(varint(packed)?)?,
            kind: hash(packed)?,
        })
    }
}

impl Entry for CategoryEntry {
    /// Two pages of the index, and the room on the row's own page.
    const FULL: usize = 2 * 1020 + 150;

    fn of(message: &IndexEntry) -> Self {
        message.in_category()
    }

    fn integers(self) -> impl AsRef<[i64]> {
        [self.global_position]
    }

    fn last(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { global_position: row.get(0)?, hashes: Hashes { stream: 0, kind: 0, correlation: None } })
    }

    fn precedes(self, other: Self) -> bool {
        self.global_position < other.global_position
    }

    fn pack(self, after: Self, packed: &mut Vec<u8>) {
        let distance = after.global_position.abs_diff(self.global_position);
        put_varint(packed, distance << 1 | u64::from(self.hashes.correlation.is_some()));
        packed.extend(self.hashes.stream.to_le_bytes());
        put_hash(packed, self.hashes.kind);
        self.hashes.correlation.into_iter().for_each(|correlation| put_hash(packed, correlation));
    }

    fn unpack(after: Self, packed: &mut &[u8]) -> Option<Self> {
        let distance = varint(packed)?;
        let stream = i64::from_le_bytes(*packed.split_off(..8)?.first_chunk()?);
        let kind = hash(packed)?;
        let correlation = if distance & 1 == 1 { Some(hash(packed)?) } else { None };
        Some(Self {
            global_position: after.global_position.checked_sub_unsigned(distance >> 1)?,
            hashes: Hashes { stream, kind, correlation },
        })
    }
}

fn put_varint(packed: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        packed.push(number as u8 | 0x80);
        number >>= 7;
    }
    packed.push(number as u8);
}

fn varint(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = *packed.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A hash as of [`super::memtable::text_hash`].
fn put_hash(packed: &mut Vec<u8>, hash: u32) {
    packed.extend(hash.to_le_bytes());
}

fn hash(packed: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*packed.split_off(..4)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Messages of a few streams of one category, with gaps as an import leaves them.
    fn messages() -> impl Strategy<Value = Vec<IndexEntry>> {
        let message =
            (0..3usize, 1..5i64, prop_oneof![9 => 1..100i64, 1 => 1..1i64 << 60], any::<[u32; 2]>(), any::<bool>());
        prop::collection::vec(message, 1..400).prop_map(|made| {
            let (mut positions, mut global_position) = ([-1i64; 3], 0i64);
            made.into_iter()
                .map_while(|(stream, gap, global_gap, [kind, correlation], is_correlated)| {
                    positions[stream] += gap;
                    global_position = global_position.checked_add(global_gap)?;
                    Some(IndexEntry {
                        global_position,
                        stream: format!("a-{stream}").into(),
                        position: positions[stream],
                        starts_stream: false,
                        id: uuid::Uuid::nil(),
                        hashes: Hashes {
                            stream: -(kind as i64) << 20,
                            kind,
                            correlation: is_correlated.then_some(correlation),
                        },
                    })
                })
                .collect()
        })
    }

    fn packed<'a, E: Entry>(messages: impl Iterator<Item = (i64, &'a IndexEntry)>) -> rusqlite::Result<Vec<Run<E>>> {
        let mut packed = Vec::new();
        pack(messages, |runs| {
            packed.extend_from_slice(runs);
            Ok(())
        })?;
        Ok(packed)
    }

    fn unpacked<E: Entry>(run: &Run<E>) -> Option<Vec<E>> {
        let mut entries = Vec::new();
        unpack_bytes(run.id, run.last, &run.packed, &mut entries)?;
        entries.reverse();
        Some(entries)
    }

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(messages in messages()) {
            let mut by_stream: Vec<_> = messages.iter().map(|message| (message.stream.as_bytes()[2].into(), message)).collect();
            by_stream.sort_by_key(|(stream, _)| *stream);
            let mut entries = Vec::new();
            for run in packed::<StreamEntry>(by_stream.iter().copied()).unwrap() {
                prop_assert!(run.packed.len() < 231 - 30);
                let of_run = unpacked(&run).unwrap();
                prop_assert_eq!((of_run.first(), of_run.last()), (Some(&run.first), Some(&run.last)));
                entries.extend(of_run.into_iter().map(|entry| (run.id, entry)));
            }
            let given: Vec<_> = by_stream.iter().map(|(stream, message)| (*stream, message.in_stream())).collect();
            prop_assert_eq!(entries, given);

            let runs = packed::<CategoryEntry>(messages.iter().map(|message| (7, message))).unwrap();
            let entries: Vec<_> = runs.iter().flat_map(|run| unpacked(run).unwrap()).collect();
            prop_assert_eq!(entries, messages.iter().map(IndexEntry::in_category).collect::<Vec<_>>());
        }

        #[test]
        fn what_was_changed_is_noticed(messages in messages(), at in any::<prop::sample::Index>(), bit in 0..8u32) {
            let mut run = packed::<CategoryEntry>(messages.iter().map(|message| (7, message))).unwrap().remove(0);
            prop_assert!(unpack_bytes(8, run.last, &run.packed, &mut Vec::new()).is_none());
            let at = at.index(run.packed.len());
            run.packed[at] ^= 1 << bit;
            prop_assert!(unpacked(&run).is_none());
            run.packed.truncate(at);
            prop_assert!(unpacked(&run).is_none());
        }
    }

    #[test]
    fn a_position_that_is_there_twice_is_refused() {
        let message = |global_position, position| IndexEntry {
            global_position,
            stream: "a-1".into(),
            position,
            starts_stream: false,
            id: uuid::Uuid::nil(),
            hashes: Hashes { stream: 1, kind: 1, correlation: None },
        };
        for (many, doubled) in [(2, 1), (100, 1), (100, 50), (100, 99)] {
            let mut messages: Vec<_> = (0..many).map(|at| message(at + 1, at)).collect();
            assert!(packed::<StreamEntry>(messages.iter().map(|message| (1, message))).is_ok());
            messages[doubled].position -= 1;
            let error = packed::<StreamEntry>(messages.iter().map(|message| (1, message))).unwrap_err();
            assert_eq!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::ConstraintViolation));
        }
    }

    mod fuzz {
        use super::*;

        /// What a row holds that a stranger has written, who knows the checksum.
        fn forged<E: Entry>(last: E, mut packed: Vec<u8>) -> Option<Vec<E>> {
            let sum = checksum(7, last, &packed);
            packed.splice(..0, sum.to_le_bytes());
            let mut entries = Vec::new();
            unpack_bytes(7, last, &packed, &mut entries)?;
            Some(entries)
        }

        /// Positions as large and as small as there are.
        fn position() -> impl Strategy<Value = i64> {
            prop_oneof![any::<i64>(), Just(i64::MIN), Just(i64::MAX), -3..1000i64]
        }

        fn bytes() -> impl Strategy<Value = Vec<u8>> {
            let byte = prop_oneof![3 => any::<u8>(), 1 => Just(0xff), 1 => Just(0x80), 1 => Just(0)];
            prop::collection::vec(byte, 0..200)
        }

        proptest! {
            #[test]
            fn any_bytes_are_refused_or_descend(
                packed in bytes(), position in position(), global_position in position(),
            ) {
                let of_stream = forged(StreamEntry { position, global_position, kind: 0 }, packed.clone());
                for entries in of_stream.iter() {
                    prop_assert!(entries.len() <= packed.len());
                    prop_assert!(entries.is_sorted_by(|a, b| a.position >= b.position));
                    prop_assert!(entries.first().is_none_or(|first| first.position <= position));
                }
                let hashes = Hashes { stream: 0, kind: 0, correlation: None };
                let of_category = forged(CategoryEntry { global_position, hashes }, packed.clone());
                for entries in of_category.iter() {
                    prop_assert!(entries.is_sorted_by(|a, b| a.global_position >= b.global_position));
                    prop_assert!(entries.first().is_none_or(|first| first.global_position <= global_position));
                }
            }
        }
    }
}
