//! When an append passed each stage of its way, for callers that ask for it.

use std::time::Instant;

use parking_lot::Mutex;

/// When an append passed each stage. Where it went round, the last time counts.
#[derive(Debug, Default)]
pub struct Stages(Mutex<Times>);

/// When an append passed each stage that it has reached. One that is refused, or repeats an earlier one, is not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// It was put into the queue of its log.
    pub queued: Option<Instant>,
    /// It was taken out of the queue, to be planned and committed.
    pub taken: Option<Instant>,
    /// Its batch was committed.
    pub committed: Option<Instant>,
    /// Readers see it, and its caller is answered.
    pub published: Option<Instant>,
}

impl Stages {
    /// The times until now.
    pub fn times(&self) -> Times {
        *self.0.lock()
    }

    pub(super) fn queued(&self, at: Instant) {
        *self.0.lock() = Times { queued: Some(at), ..Times::default() };
    }

    pub(super) fn taken(&self, at: Instant) {
        self.0.lock().taken = Some(at);
    }

    pub(super) fn published(&self, committed: Instant) {
        let mut times = self.0.lock();
        (times.committed, times.published) = (Some(committed), Some(Instant::now()));
    }
}
