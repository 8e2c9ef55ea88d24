//! Records that are stored together.

use eventodb_protocol::message::Message;
use eventodb_protocol::{ErrorCode, Limits};

use super::lines::Line;
use super::progress::Failed;
use super::record;
use crate::http::{Account, Exhausted, Permit};

/// Bytes of text after which a batch is full before it has all its records: large messages would
/// take a gigabyte otherwise.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// Memory is taken in steps of this many bytes.
const STEP: usize = 64 * 1024;
/// What a record takes beside its text.
const OVERHEAD: usize = 256;

/// The records of some lines, until they are stored.
pub(super) struct Batch {
    limits: Limits,
    /// What the records take.
    memory: Permit,
    records: Vec<Message>,
    /// The number of each record's line.
    lines: Vec<u64>,
    bytes: usize,
    /// The global position of the last record, of this batch or an earlier one.
    last: i64,
}

impl Batch {
    /// An empty one whose memory is counted there.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(super) fn new(limits: Limits, account: &Account) -> Result<Self, Exhausted> {
        Ok(Self { limits, memory: account.take(0)?, records: Vec::new(), lines: Vec::new(), bytes: 0, last: 0 })
    }

    /// Takes memory for the record on a line.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(super) fn make_room(&mut self, line: &Line) -> Result<(), Exhausted> {
        // A record has no more text than its line.
        let needed = self.bytes + line.bytes.len() + OVERHEAD * (self.records.len() + 1);
        if needed <= self.memory.bytes() {
            return Ok(());
        }
        self.memory.hold(needed.next_multiple_of(STEP)).or_else(|_| self.memory.hold(needed))
    }

    /// Adds the record on a line.
    pub(super) fn add(&mut self, line: &Line) -> Result<(), Failed> {
        let number = line.number;
        let invalid = |message: String| Failed::new(ErrorCode::InvalidJson, message, number);
        let record = record::parse(&line.bytes, &self.limits).map_err(invalid)?;
        if record.global_position < self.last {
            return Err(invalid(format!("gpos must ascend, {} comes after {}", record.global_position, self.last)));
        }
        if record.global_position == self.last {
            return Err(Failed::position_exists(number));
        }
        self.last = record.global_position;
        self.bytes += record.size();
        self.records.push(record);
        self.lines.push(number);
        Ok(())
    }

    /// Whether it has this number of records, or as many bytes as it may have.
    pub(super) fn is_full(&self, most: usize) -> bool {
        self.records.len() >= most || self.bytes >= MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records and their lines; the batch is empty then, and their memory is counted until [`Self::stored`].
    pub(super) fn take(&mut self) -> (Vec<Message>, Vec<u64>) {
        self.bytes = 0;
        (std::mem::take(&mut self.records), std::mem::take(&mut self.lines))
    }

    /// What was taken is kept no more.
    pub(super) fn stored(&mut self) {
        self.memory.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use eventodb_protocol::limits::IMPORT_BATCH;

    use super::*;
    use crate::http::{Budget, Holder};

    fn batch(memory: usize) -> Batch {
        let account = Arc::new(Budget::new(memory)).account(&Arc::default(), Holder::Namespace("a".into()));
        Batch::new(Limits::default(), &account).expect("nothing is always there")
    }

    fn line(number: u64, gpos: i64, data: &str) -> Line {
        Line::whole(
            number,
            format!(
                r#"{{"id":"01a1fc08-5531-75a2-ad93-a98729fd37f0","stream":"a-1","type":"T","pos":0,"gpos":{gpos},"data":{{"x":"{data}"}},"meta":null,"time":"2026-11-21T02:56:06Z"}}"#
            ),
        )
    }

    #[test]
    fn positions_ascend_across_batches() {
        let mut batch = batch(1 << 30);
        batch.add(&line(1, 5, "")).expect("a record");
        batch.take();
        let failed = batch.add(&line(2, 4, "")).expect_err("descending");
        assert_eq!((failed.code, failed.line), (ErrorCode::InvalidJson, 2));
        let failed = batch.add(&line(2, 5, "")).expect_err("taken");
        assert_eq!((failed.code, failed.line), (ErrorCode::PositionExists, 2));
        batch.add(&line(2, 6, "")).expect("a record");
    }

    #[test]
    fn a_batch_is_full_by_count_or_bytes() {
        let mut small = batch(1 << 30);
        for number in 1..=IMPORT_BATCH as u64 {
            assert!(!small.is_full(IMPORT_BATCH));
            small.add(&line(number, number.cast_signed(), "")).expect("a record");
        }
        assert!(small.is_full(IMPORT_BATCH));
        let mut batch = batch(1 << 30);
        let large = "x".repeat(1_000_000);
        for number in 1..=17 {
            batch.add(&line(number, number.cast_signed(), &large)).expect("a record");
        }
        assert!(batch.is_full(IMPORT_BATCH));
    }

    #[test]
    fn records_are_counted_until_they_are_stored() {
        let mut batch = batch(300_000);
        let large = "x".repeat(60_000);
        let mut number = 0;
        while batch.make_room(&line(number, 0, &large)).is_ok() {
            number += 1;
            batch.add(&line(number, number.cast_signed(), &large)).expect("a record");
        }
        assert_eq!(number, 1, "a third of what there is");
        batch.take();
        assert!(batch.memory.bytes() > 60_000, "they are being stored");
        batch.stored();
        assert!(batch.make_room(&line(2, 2, &large)).is_ok());
    }
}
