//! A checkpoint in memory: for tests, and for views that are rebuilt at each start.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{CheckpointError, CheckpointStore};

/// A position in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryCheckpoint(Arc<Mutex<Option<i64>>>);

impl MemoryCheckpoint {
    /// A checkpoint without a saved position.
    pub fn new() -> Self {
        Self::default()
    }

    /// The position that was saved last.
    pub fn position(&self) -> Option<i64> {
        *self.0.lock()
    }
}

#[async_trait]
impl CheckpointStore for MemoryCheckpoint {
    async fn load(&mut self) -> Result<Option<i64>, CheckpointError> {
        Ok(self.position())
    }

    async fn save(&mut self, position: i64) -> Result<(), CheckpointError> {
        *self.0.lock() = Some(position);
        Ok(())
    }
}
