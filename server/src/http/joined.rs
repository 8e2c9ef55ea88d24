//! Bytes that come in pieces, in one buffer whose memory is counted.

use super::budget::{Account, Exhausted, Permit};

/// Each byte counts this often: as it came, and in what is made of it.
pub(crate) const COUNTED: usize = 2;

/// The pieces that came, in one buffer.
pub(crate) struct Joined {
    bytes: Vec<u8>,
    memory: Permit,
    /// The most bytes that can come.
    most: usize,
}

impl Joined {
    /// An empty buffer for at most this many bytes.
    ///
    /// # Errors
    /// [`Exhausted`].
    pub(crate) fn new(account: &Account, most: usize) -> Result<Self, Exhausted> {
        Ok(Self { bytes: Vec::new(), memory: account.take(0)?, most })
    }

    /// How many bytes came.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// [`Exhausted`]; what came before is kept.
    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), Exhausted> {
        let length = self.bytes.len() + piece.len();
        if length > self.bytes.capacity() {
            // Grows by what came, not by what the client declared: a declared length costs the client nothing.
            let capacity = (2 * length).min(self.most).max(length);
            self.memory.hold(COUNTED * capacity)?;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// The bytes, and their memory.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Permit) {
        (self.bytes, self.memory)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::budget::{Budget, Holder};
    use super::*;

    #[test]
    fn memory_is_taken_for_what_came_and_not_for_what_was_declared() {
        let budget = Arc::new(Budget::new(600 * 1024));
        let account = budget.account(&Arc::default(), Holder::Namespace("a".into()));
        let mut joined = Joined::new(&account, 1 << 40).expect("nothing is always there");
        joined.add(b"x").expect("room for a byte");
        assert!(joined.bytes.capacity() < 1024);
    }
}
