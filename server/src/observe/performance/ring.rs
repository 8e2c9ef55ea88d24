//! The last few turns of a clock, each with what was counted in it.

use std::collections::VecDeque;

/// Values by the number of their turn. Turns in which nothing was counted take no memory.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// In the order of their turns.
    turns: VecDeque<(u64, T)>,
    /// Turns that are kept.
    span: u64,
}

impl<T> Ring<T> {
    /// One that keeps this many turns.
    pub(super) fn new(span: u64) -> Self {
        Self { turns: VecDeque::new(), span }
    }

    /// Turns that are kept.
    pub(super) fn span(&self) -> u64 {
        self.span
    }

    /// Whether the turn is later than all that have a value.
    pub(super) fn is_new(&self, turn: u64) -> bool {
        self.turns.back().is_none_or(|(latest, _)| *latest < turn)
    }

    /// Drops values that are too old at a turn that is new. Returns the last of them, whose memory can be used again.
    pub(super) fn make_room(&mut self, turn: u64) -> Option<T> {
        let mut old = None;
        while self.turns.front().is_some_and(|(first, _)| first + self.span <= turn) {
            old = self.turns.pop_front().map(|(_, value)| value);
        }
        old
    }

    /// Puts in the value of a turn that is new.
    pub(super) fn push(&mut self, turn: u64, value: T) {
        self.turns.push_back((turn, value));
    }

    /// The latest turn and its value.
    pub(super) fn latest(&self) -> Option<&(u64, T)> {
        self.turns.back()
    }

    /// The value of the latest turn.
    pub(super) fn latest_mut(&mut self) -> Option<&mut T> {
        self.turns.back_mut().map(|(_, value)| value)
    }

    /// The turns that are kept at this one, the oldest first.
    pub(super) fn at(&self, turn: u64) -> impl Iterator<Item = &(u64, T)> {
        self.turns.iter().filter(move |(of, _)| of + self.span > turn)
    }

    /// How much memory its places take.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.turns.capacity() * size_of::<(u64, T)>()
    }
}
