//! The checksum that stands in each message's row.
//!
//! ```text
//! checksum = CRC-32C of a message, begun with the CRC-32C of the log's identity
//! message  = global_position position time starts_stream length{6} bytes{6}
//! length   = bytes of id, stream, type, correlation, metadata and data; all ones if there is none
//! ```
//!
//! Integers are little-endian and have 8 bytes. Because of the identity, a row of another log fails the check like a
//! changed one.

use std::cell::OnceCell;

use eventodb_protocol::filter::Traits;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row};
use uuid::Uuid;

use crate::model::Entry;

/// Columns of every statement that selects messages.
pub(super) mod column {
    pub(in super::super) const GLOBAL_POSITION: usize = 0;
    pub(in super::super) const STREAM: usize = 1;
    pub(in super::super) const POSITION: usize = 2;
    pub(in super::super) const TYPE: usize = 3;
    pub(in super::super) const CORRELATION: usize = 4;
    pub(in super::super) const ID: usize = 5;
    pub(in super::super) const TIME: usize = 6;
    pub(in super::super) const METADATA: usize = 7;
    pub(in super::super) const DATA: usize = 8;
    pub(in super::super) const STARTS_STREAM: usize = 9;
    pub(in super::super) const CHECKSUM: usize = 10;
}

/// Integers of a message.
const INTEGERS: usize = 4;
/// Texts of a message, and its id.
const PARTS: usize = 6;

/// The beginning of a log's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seed(u32);

impl Seed {
    /// The beginning for the log with this identity.
    pub(super) fn of(identity: &[u8]) -> Self {
        Self(crc32c::crc32c(identity))
    }
}

/// The bytes of a message's columns, damaged or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored<'a> {
    /// Global position, position, time, whether it starts its stream.
    pub(super) integers: [i64; INTEGERS],
    /// Id, stream, type, correlation, metadata, data.
    pub(super) parts: [Option<&'a [u8]>; PARTS],
}

impl<'a> Stored<'a> {
    /// A message that is about to be written.
    pub(super) fn of_entry(entry: &'a Entry) -> Self {
        let message = entry.message();
        Self {
            integers: [
                message.global_position,
                message.position,
                message.time.as_micros(),
                i64::from(entry.starts_stream()),
            ],
            parts: [
                Some(message.id.as_bytes()),
                Some(message.stream.as_bytes()),
                Some(message.kind.as_bytes()),
                entry.correlation().map(str::as_bytes),
                message.metadata.as_ref().map(|metadata| metadata.as_bytes()),
                Some(message.data.as_bytes()),
            ],
        }
    }

    /// The columns of a row, without a copy. `None` if a value is of a kind that no message has.
    ///
    /// # Errors
    /// SQLite's.
    pub(super) fn of_row(row: &'a Row<'_>) -> rusqlite::Result<Option<Self>> {
        use column::{CORRELATION, DATA, GLOBAL_POSITION, ID, METADATA, POSITION, STARTS_STREAM, STREAM, TIME, TYPE};
        let mut stored = Self { integers: [0; INTEGERS], parts: [None; PARTS] };
        for (integer, at) in stored.integers.iter_mut().zip([GLOBAL_POSITION, POSITION, TIME, STARTS_STREAM]) {
            let ValueRef::Integer(value) = row.get_ref(at)? else { return Ok(None) };
            *integer = value;
        }
        for (part, at) in stored.parts.iter_mut().zip([ID, STREAM, TYPE, CORRELATION, METADATA, DATA]) {
            *part = match (row.get_ref(at)?, at) {
                (ValueRef::Blob(bytes), ID) => Some(bytes),
                (ValueRef::Text(_), ID) => return Ok(None),
                (ValueRef::Text(bytes), _) => Some(bytes),
                (ValueRef::Null, CORRELATION | METADATA) => None,
                _ => return Ok(None),
            };
        }
        Ok(Some(stored))
    }

    /// Its checksum, as the column has it.
    pub(super) fn checksum(&self, seed: Seed) -> i32 {
        let mut gathered = [0; GATHERED];
        let lengths = self.parts.iter().map(|part| part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
        let head = self.integers.iter().map(|integer| integer.to_le_bytes()).chain(lengths);
        gathered.chunks_exact_mut(8).zip(head).for_each(|(room, bytes)| room.copy_from_slice(&bytes));
        let (mut crc, mut len) = (seed.0, 8 * (INTEGERS + PARTS));
        for bytes in self.parts.iter().flatten() {
            match gathered.get_mut(len..len + bytes.len()) {
                Some(room) if room.len() <= SHORT => {
                    room.copy_from_slice(bytes);
                    len += bytes.len();
                }
                _ => {
                    crc = crc32c::crc32c_append(crc, &gathered[..len]);
                    crc = crc32c::crc32c_append(crc, bytes);
                    len = 0;
                }
            }
        }
        crc32c::crc32c_append(crc, &gathered[..len]).cast_signed()
    }

    pub(super) fn global_position(&self) -> i64 {
        self.integers[0]
    }

    pub(super) fn position(&self) -> i64 {
        self.integers[1]
    }

    pub(super) fn time(&self) -> i64 {
        self.integers[2]
    }

    pub(super) fn starts_stream(&self) -> bool {
        self.integers[3] != 0
    }

    /// Its id.
    ///
    /// # Errors
    /// It is no id, in a row that has no checksum yet.
    pub(super) fn id(&self) -> rusqlite::Result<Uuid> {
        let bytes = self.parts[0].unwrap_or_default();
        Uuid::from_slice(bytes)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(column::ID, Type::Blob, error.into()))
    }

    /// # Errors
    /// It is no text, in a row that has no checksum yet; so for the other texts.
    pub(super) fn stream(&self) -> rusqlite::Result<&'a str> {
        text(self.parts[1].unwrap_or_default(), column::STREAM)
    }

    pub(super) fn kind(&self) -> rusqlite::Result<&'a str> {
        text(self.parts[2].unwrap_or_default(), column::TYPE)
    }

    pub(super) fn correlation(&self) -> rusqlite::Result<Option<&'a str>> {
        self.parts[3].map(|bytes| text(bytes, column::CORRELATION)).transpose()
    }

    /// What filters look at.
    pub(super) fn traits(&self) -> rusqlite::Result<Traits<'a>> {
        Ok(Traits { stream: self.stream()?, kind: self.kind()?, correlation: self.correlation()? })
    }

    pub(super) fn metadata(&self) -> rusqlite::Result<Option<&'a str>> {
        self.parts[4].map(|bytes| text(bytes, column::METADATA)).transpose()
    }

    pub(super) fn data(&self) -> rusqlite::Result<&'a str> {
        text(self.parts[5].unwrap_or_default(), column::DATA)
    }
}

fn text(bytes: &[u8], column: usize) -> rusqlite::Result<&str> {
    std::str::from_utf8(bytes).map_err(|error| rusqlite::Error::Utf8Error(column, error))
}

/// Bytes that are summed up at once.
const GATHERED: usize = 256;
/// Texts up to this number of bytes are copied and summed up together, because that costs less than one by one.
const SHORT: usize = 64;

/// The verdict of a checksum on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is as it was written.
    Sound,
    /// An earlier version wrote it, and it has no checksum yet.
    Unchecked,
    /// It is not as it was written.
    Damaged,
}

/// Checks rows of one snapshot of a log. The caller has a transaction open.
pub(super) struct Checker<'c> {
    connection: &'c Connection,
    seed: Seed,
    /// The positions that may lack a checksum: above the first, up to the second.
    unchecked: OnceCell<(i64, i64)>,
    dense_after: OnceCell<i64>,
}

impl<'c> Checker<'c> {
    pub(super) fn new(connection: &'c Connection, seed: Seed) -> Self {
        Self { connection, seed, unchecked: OnceCell::new(), dense_after: OnceCell::new() }
    }

    /// One for the log that this connection has, whatever the version of its schema.
    ///
    /// # Errors
    /// SQLite's; so for all methods.
    pub(super) fn of_log(connection: &'c Connection) -> rusqlite::Result<Self> {
        let identity: Vec<u8> = connection.query_row("SELECT identity FROM identity", [], |row| row.get(0))?;
        Ok(Self::new(connection, Seed::of(&identity)))
    }

    pub(super) fn seed(&self) -> Seed {
        self.seed
    }

    pub(super) fn check(&self, row: &Row<'_>) -> rusqlite::Result<Verdict> {
        match Stored::of_row(row)? {
            Some(stored) => self.judge(row, &stored),
            None => Ok(Verdict::Damaged),
        }
    }

    fn judge(&self, row: &Row<'_>, stored: &Stored<'_>) -> rusqlite::Result<Verdict> {
        match row.get_ref(column::CHECKSUM)? {
            ValueRef::Integer(checksum) if checksum == i64::from(stored.checksum(self.seed)) => Ok(Verdict::Sound),
            ValueRef::Null => {
                let (done, last) = self.unchecked()?;
                let may_lack = done < stored.global_position() && stored.global_position() <= last;
                Ok(if may_lack { Verdict::Unchecked } else { Verdict::Damaged })
            }
            _ => Ok(Verdict::Damaged),
        }
    }

    /// The message of a row, if it may be served.
    pub(super) fn read<'r>(&self, row: &'r Row<'_>) -> rusqlite::Result<Option<Stored<'r>>> {
        let Some(stored) = Stored::of_row(row)? else { return Ok(None) };
        let verdict = self.judge(row, &stored)?;
        Ok((verdict != Verdict::Damaged).then_some(stored))
    }

    fn unchecked(&self) -> rusqlite::Result<(i64, i64)> {
        if let Some(known) = self.unchecked.get() {
            return Ok(*known);
        }
        let asked = if self.connection.table_exists(None, "unchecked")? {
            let mut select = self.connection.prepare_cached("SELECT done, last_position FROM unchecked")?;
            select.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?.unwrap_or_default()
        } else {
            // The schema's first version knew no checksums.
            (i64::MIN, i64::MAX)
        };
        Ok(*self.unchecked.get_or_init(|| asked))
    }

    /// Above this global position there are no gaps. An import may leave some below it, or a repair.
    pub(super) fn dense_after(&self) -> rusqlite::Result<i64> {
        if let Some(known) = self.dense_after.get() {
            return Ok(*known);
        }
        let mut select = self.connection.prepare_cached("SELECT last_position FROM imports")?;
        let asked = select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0);
        Ok(*self.dense_after.get_or_init(|| asked))
    }

    /// The lowest position within bounds at which a message is missing.
    pub(super) fn missing(&self, low: i64, high: i64) -> rusqlite::Result<Option<i64>> {
        if low > high {
            return Ok(None);
        }
        let first = self.dense_after()?.checked_add(1).map(|dense| low.max(dense));
        Ok(first.filter(|first| *first <= high))
    }
}

/// Gives every message of a log the checksum of its present bytes, as if they had been written so. Nobody may use the
/// log meanwhile.
///
/// # Errors
/// SQLite's.
#[cfg(any(test, feature = "testing"))]
pub fn restamp(log: &std::path::Path) -> rusqlite::Result<()> {
    let log = Connection::open(log)?;
    let seed = Checker::of_log(&log)?.seed();
    let mut select = log.prepare(include_str!("sql/whole_rows.sql"))?;
    let mut rows = select.query([i64::MIN, i64::MAX])?;
    let mut sums = Vec::new();
    while let Some(row) = rows.next()? {
        let at: i64 = row.get(column::GLOBAL_POSITION)?;
        sums.extend(Stored::of_row(row)?.map(|stored| (at, stored.checksum(seed))));
    }
    drop(rows);
    let mut update = log.prepare("UPDATE messages SET checksum = ?2 WHERE global_position = ?1")?;
    sums.iter().try_for_each(|sum| update.execute(*sum).map(|_| ()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEED: Seed = Seed(7);

    fn stored<'a>(integers: [i64; INTEGERS], parts: &'a [Option<Vec<u8>>]) -> Stored<'a> {
        let mut all = [None; PARTS];
        all.iter_mut().zip(parts).for_each(|(all, part)| *all = part.as_deref());
        Stored { integers, parts: all }
    }

    /// As the module says it, without shortcuts.
    fn plainly(stored: &Stored<'_>) -> u32 {
        let mut bytes = Vec::new();
        stored.integers.iter().for_each(|integer| bytes.extend(integer.to_le_bytes()));
        let lengths = stored.parts.map(|part| part.map_or(u64::MAX, |part| part.len() as u64));
        lengths.iter().for_each(|length| bytes.extend(length.to_le_bytes()));
        stored.parts.iter().flatten().for_each(|part| bytes.extend(*part));
        crc32c::crc32c_append(SEED.0, &bytes)
    }

    proptest! {
        #[test]
        fn it_is_that_of_all_bytes(
            integers in any::<[i64; INTEGERS]>(),
            parts in prop::collection::vec(prop::option::of(prop::collection::vec(any::<u8>(), 0..600)), PARTS),
        ) {
            let stored = stored(integers, &parts);
            prop_assert_eq!(stored.checksum(SEED), plainly(&stored).cast_signed());
        }
    }

    #[test]
    fn bytes_that_move_from_one_column_to_the_next_change_it() {
        let one = [None, Some(b"ab".to_vec()), Some(b"c".to_vec()), None, None, Some(Vec::new())];
        let other = [None, Some(b"a".to_vec()), Some(b"bc".to_vec()), None, None, Some(Vec::new())];
        let absent = [None, Some(b"a".to_vec()), Some(b"bc".to_vec()), None, Some(Vec::new()), Some(Vec::new())];
        let sums = [&one, &other, &absent].map(|parts| stored([1; INTEGERS], parts).checksum(SEED));
        assert!(sums[0] != sums[1] && sums[1] != sums[2], "{sums:?}");
    }
}
