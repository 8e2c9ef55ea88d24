//! Values that all threads change, with a part of them for each thread.
//!
//! A line of memory that several cores change goes from one core to the other with each change, which takes longer than
//! the change itself.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

/// More threads than this share parts.
const MOST: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread among those that have used a part of anything.
    static NUMBER: usize = NEXT.fetch_add(1, Relaxed);
}

/// Parts, of which each thread uses one. Two threads may use the same.
#[derive(Debug)]
pub(crate) struct PerThread<T>(Box<[Apart<T>]>);

/// Alone in its lines of memory, of which processors fetch two of 64 bytes at once.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

impl<T: Default> Default for PerThread<T> {
    /// As many parts as threads are likely to run at once.
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        // A power of two, so that finding a part needs no division.
        let parts = (2 * cores).next_power_of_two().min(MOST);
        Self((0..parts).map(|_| Apart::default()).collect())
    }
}

impl<T> PerThread<T> {
    /// The part of this thread.
    pub(crate) fn mine(&self) -> &T {
        let number = NUMBER.with(|number| *number);
        &self.0[number & (self.0.len() - 1)].0
    }

    /// All parts.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|part| &part.0)
    }
}
