//! What is known of the messages of a stretch of the log, for conditions that ask about many.
//!
//! A condition asks whether a match lies above a position. The last position of each category, and of each type in it, is
//! enough to answer that, so that a stretch of any length is answered from memory. [`super::write`] gathers it.
//!
//! **Invariant:** every message that readers see above `Stretch::above` and up to `Stretch::upto` is in its `kinds`.

use eventodb_protocol::Filter;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::kinds::Kinds;
use super::window::Window;

/// A survey reads whole messages, a search mostly the index: a survey is due once the searches have looked at this many
/// times what it has to read.
const WORTH: i64 = 4;
/// Pairs of a category and a type that are kept. A log that has more is searched for each condition.
pub(super) const MOST_PAIRS: usize = 16_384;

/// What a log knows of its messages.
#[derive(Debug)]
pub(super) struct Survey {
    known: Mutex<Known>,
    /// Whoever searches the storage for a condition has it.
    pub(super) turn: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    stretch: Option<Stretch>,
    /// Positions that searches have looked at since the last survey began.
    searched: i64,
    is_under_way: bool,
    /// No survey is made any more: the log has too many types, or a message cannot be read.
    is_given_up: bool,
    /// Counts how often everything was forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Stretch {
    above: i64,
    upto: i64,
    kinds: Kinds,
}

/// What memory says about a condition.
pub(super) enum Answer {
    /// The position of a message that matches.
    Found(i64),
    /// There is no match but in these ranges, from their first position to their last.
    Unknown([(i64, i64); 2]),
}

/// A survey that is due.
pub(super) struct Due {
    /// What it has to read: above the first position, up to the second.
    pub(super) ranges: [(i64, i64); 2],
    forgotten: u64,
}

impl Default for Survey {
    fn default() -> Self {
        Self { known: Mutex::default(), turn: Semaphore::new(1) }
    }
}

impl Survey {
    /// The log may have gone back: nothing is known any more.
    pub(super) fn forget(&self) {
        let mut known = self.known.lock();
        known.stretch = None;
        known.forgotten += 1;
    }

    /// Whether a message matches above `above` and up to `head`, which readers see. A match behind `head` may be found as
    /// well.
    pub(super) fn answer(&self, window: &Window, filter: &Filter, above: i64, head: i64) -> Answer {
        let mut known = self.known.lock();
        known.go_on(window);
        let Some(stretch) = &known.stretch else { return Answer::Unknown([(above + 1, head), (1, 0)]) };
        match stretch.kinds.last(filter, above) {
            Some(at) => Answer::Found(at),
            None => Answer::Unknown([(above + 1, stretch.above.min(head)), (stretch.upto.max(above) + 1, head)]),
        }
    }

    /// A search for a condition above `above` has looked at this many positions of a log that ends at `head`. Returns the
    /// survey that the caller has to make, if that is worth it by now.
    pub(super) fn note_search(&self, above: i64, searched: i64, head: i64) -> Option<Due> {
        let mut known = self.known.lock();
        known.searched += searched;
        let ranges = known.missing(above, head);
        let length: i64 = ranges.iter().map(|(above, upto)| upto - above).sum();
        let is_worth_it = length > 0 && known.searched >= length.saturating_mul(WORTH);
        if known.is_given_up || known.is_under_way || !is_worth_it {
            return None;
        }
        (known.is_under_way, known.searched) = (true, 0);
        Some(Due { ranges, forgotten: known.forgotten })
    }

    /// A survey has found this.
    pub(super) fn add(&self, due: &Due, kinds: &Kinds) {
        let mut known = self.known.lock();
        known.is_under_way = false;
        if known.forgotten == due.forgotten && !known.is_given_up {
            known.add(due.ranges, kinds);
        }
    }

    /// A survey was broken off: the next searches have another one made.
    pub(super) fn break_off(&self) {
        self.known.lock().is_under_way = false;
    }

    /// No survey is made any more.
    pub(super) fn give_up(&self) {
        let mut known = self.known.lock();
        (known.is_under_way, known.is_given_up) = (false, true);
    }

    #[cfg(test)]
    pub(super) fn is_given_up(&self) -> bool {
        self.known.lock().is_given_up
    }
}

impl Known {
    /// Takes the stretch on to the head, if the tail reaches back to its end.
    fn go_on(&mut self, window: &Window) {
        let Some(stretch) = &mut self.stretch else { return };
        if !window.reaches_back_to(stretch.upto) {
            return;
        }
        let (since, entries) = window.after(stretch.upto);
        if since != stretch.upto {
            return;
        }
        for entry in &entries {
            stretch.kinds.note(entry.message().as_ref());
            stretch.upto = entry.message().global_position;
        }
        self.bound();
    }

    fn bound(&mut self) {
        if self.stretch.as_ref().is_some_and(|stretch| stretch.kinds.pairs() > MOST_PAIRS) {
            (self.stretch, self.is_given_up) = (None, true);
        }
    }

    /// What a survey has to read so that a condition above `above` is answered from memory: the ranges (above, up to).
    fn missing(&self, above: i64, head: i64) -> [(i64, i64); 2] {
        match &self.stretch {
            None => [(above, head), (0, 0)],
            Some(stretch) => [(above.min(stretch.above), stretch.above), (stretch.upto, head.max(stretch.upto))],
        }
    }

    /// Adds what a survey of these ranges has found.
    fn add(&mut self, ranges: [(i64, i64); 2], kinds: &Kinds) {
        let [(above, _), _] = ranges;
        let upto = ranges.iter().map(|(_, upto)| *upto).max().unwrap_or_default();
        let stretch = self.stretch.get_or_insert_with(|| Stretch { above, upto, kinds: Kinds::default() });
        stretch.kinds.take(kinds);
        // The stretch may have gone on with the tail meanwhile.
        (stretch.above, stretch.upto) = (stretch.above.min(above), stretch.upto.max(upto));
        self.bound();
    }
}
