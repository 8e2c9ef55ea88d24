//! Records that are stored together.

use eventodb_schema::limits::IMPORT_BATCH;
use eventodb_schema::message::Message;
use eventodb_schema::{ErrorCode, Limits};

use super::progress::Failed;
use super::record;

/// Bytes of text after which a batch is full before it has all its records: large messages would
/// take a gigabyte otherwise.
const MOST_BYTES: usize = 16 * 1024 * 1024;

/// See the module.
pub(super) struct Batch {
    limits: Limits,
    records: Vec<Message>,
    /// The number of each record's line.
    lines: Vec<u64>,
    bytes: usize,
    /// The global position of the last record, of this batch or an earlier one.
    last: i64,
}

impl Batch {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, records: Vec::new(), lines: Vec::new(), bytes: 0, last: 0 }
    }

    /// Adds the record on a line.
    pub(super) fn add(&mut self, number: u64, line: &[u8]) -> Result<(), Failed> {
        let invalid = |message| Failed { code: ErrorCode::InvalidJson, message, line: number };
        let record = record::parse(line, &self.limits).map_err(invalid)?;
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

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= IMPORT_BATCH || self.bytes >= MOST_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records and their lines; the batch is empty then.
    pub(super) fn take(&mut self) -> (Vec<Message>, Vec<u64>) {
        self.bytes = 0;
        (std::mem::take(&mut self.records), std::mem::take(&mut self.lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(gpos: i64, data: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"01a1fc08-5531-75a2-ad93-a98729fd37f0","stream":"a-1","type":"T","pos":0,"gpos":{gpos},"data":{{"x":"{data}"}},"meta":null,"time":"2026-11-21T02:56:06Z"}}"#
        )
        .into_bytes()
    }

    #[test]
    fn positions_ascend_across_batches() {
        let mut batch = Batch::new(Limits::default());
        batch.add(1, &line(5, "")).expect("a record");
        batch.take();
        let failed = batch.add(2, &line(4, "")).expect_err("descending");
        assert_eq!((failed.code, failed.line), (ErrorCode::InvalidJson, 2));
        let failed = batch.add(2, &line(5, "")).expect_err("taken");
        assert_eq!((failed.code, failed.line), (ErrorCode::PositionExists, 2));
        batch.add(2, &line(6, "")).expect("a record");
    }

    #[test]
    fn a_batch_is_full_by_count_or_bytes() {
        let mut batch = Batch::new(Limits::default());
        for number in 1..=IMPORT_BATCH as u64 {
            assert!(!batch.is_full());
            batch.add(number, &line(number.cast_signed(), "")).expect("a record");
        }
        assert!(batch.is_full());
        let mut batch = Batch::new(Limits::default());
        let large = "x".repeat(1_000_000);
        for number in 1..=17 {
            batch.add(number, &line(number.cast_signed(), &large)).expect("a record");
        }
        assert!(batch.is_full());
    }
}
