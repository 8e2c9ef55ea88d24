//! The messages that the databases' ceilings are given: as the scenarios write them, numbered as a log would.

use std::collections::HashMap;
use std::sync::Arc;

use eventodb_protocol::group::stream_hash;
use uuid::Uuid;

use crate::names::Names;
use crate::random::{Random, random};
use crate::scenario::write::data;

/// One message, without its data, which all have in common.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// From 1 on, without gaps.
    pub(super) global_position: i64,
    pub(super) stream: Arc<str>,
    /// In the stream, from 0 on.
    pub(super) position: i64,
    /// The category's number.
    pub(super) category: u64,
    /// As consumer groups are divided by.
    pub(super) stream_hash: i64,
    /// Ascending in time, as generated ids are.
    pub(super) id: Uuid,
    /// The stream's number.
    pub(super) number: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    name: Arc<str>,
    hash: i64,
    /// The position of its next message.
    next: i64,
}

/// Makes the messages, one batch after the other.
#[derive(Debug)]
pub(crate) struct Rows {
    names: Names,
    random: Random,
    written: i64,
    /// The streams so far: making names and hashes anew would cost as much as inserting.
    streams: HashMap<u64, Stream>,
    pub(super) data: String,
}

impl Rows {
    /// Messages of `size` bytes to streams of `names`.
    pub(crate) fn new(names: &Names, size: usize, seed: u64) -> Self {
        let (names, random) = (names.clone(), random(seed, 0));
        Self { names, random, written: 0, streams: HashMap::new(), data: data(size) }
    }

    pub(super) fn written(&self) -> u64 {
        self.written as u64
    }

    pub(super) fn category(&self, number: u64) -> String {
        self.names.category(number)
    }

    pub(super) fn batch(&mut self, count: u64) -> Vec<Row> {
        let mut row = || {
            let number = self.names.choose(&mut self.random);
            let stream = self.streams.entry(number).or_insert_with(|| {
                let name = self.names.stream(number);
                Stream { hash: stream_hash(&name), name: name.into(), next: 0 }
            });
            let position = stream.next;
            stream.next += 1;
            self.written += 1;
            Row {
                global_position: self.written,
                stream: Arc::clone(&stream.name),
                position,
                category: number % self.names.categories,
                stream_hash: stream.hash,
                id: Uuid::now_v7(),
                number,
            }
        };
        (0..count).map(|_| row()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Distribution;

    #[test]
    fn rows_are_numbered_without_gaps() {
        let mut rows = Rows::new(&Names::new(7, 2, Distribution::Uniform), 64, 1);
        let batch: Vec<Row> = [rows.batch(40), rows.batch(60)].concat();
        assert_eq!(rows.written(), 100);
        assert!((1..).zip(&batch).all(|(n, row)| row.global_position == n));
        for stream in 0..7 {
            let positions: Vec<i64> = batch.iter().filter(|row| row.number == stream).map(|row| row.position).collect();
            assert!((0..).zip(&positions).all(|(n, &position)| position == n), "{positions:?}");
        }
    }
}
