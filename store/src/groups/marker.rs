//! Markers: each stands in the place of a message that was damaged and given up. Its stream is parked there.
//!
//! Nobody knows what the message was, not even its type. Therefore a marker is handed out to no handler, and an operator
//! decides whether the messages behind it may be handled without it.

use std::sync::Arc;

use super::group::{Group, Moment};
use super::parked::Parked;
use super::span::Span;

/// The type of a marker.
pub const MARKER: &str = "$damaged";

/// A marker that a read came upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its stream.
    pub stream: Arc<str>,
    /// Its global position.
    pub position: i64,
}

impl Group {
    /// What [`Self::park_markers`] has to know: whether an earlier message of a marker's stream waits.
    pub fn marker_spans(&self, markers: &[Marker]) -> Vec<Span> {
        let span = |Marker { stream, position }: &Marker| {
            let (stream, above) = (Arc::clone(stream), self.handled_up_to(stream));
            Span { stream, above, upto: position - 1, limit: 1 }
        };
        markers.iter().map(span).collect()
    }

    /// Parks the streams of markers at them, as far as there is room for parked streams. A stream in which an earlier
    /// message waits is left as it is: parked at the marker, it would count as handled up to there. `left` are the
    /// answers to [`Self::marker_spans`]. Returns whether a stream was parked.
    pub fn park_markers(&mut self, markers: &[Marker], left: &[Vec<i64>], at: &Moment) -> bool {
        let mut is_parked = false;
        for (marker, left) in markers.iter().zip(left) {
            let comes_next = left.is_empty() && marker.position > self.handled_up_to(&marker.stream);
            is_parked |= comes_next && self.park_marker(marker, at);
        }
        is_parked
    }

    fn park_marker(&mut self, Marker { stream, position }: &Marker, at: &Moment) -> bool {
        let (handled, reason) = (position - 1, reason(*position));
        if let Some(parked) = self.park.change(stream) {
            (parked.handled, parked.attempts, parked.reason) = (handled, parked.attempts.max(1), reason);
            (parked.due, parked.is_out) = (None, false);
            return true;
        }
        if self.is_park_full() {
            return false;
        }
        let rev = self.next_rev();
        let parked = Parked { handled, attempts: 1, reason, since: at.now, due: None, rev, is_out: false };
        self.park.add(Arc::clone(stream), parked);
        true
    }
}

fn reason(position: i64) -> Arc<str> {
    format!(
        "the message at global position {position} was damaged and is given up: pass over it by `group.skip` up to \
         {position}, or restore it from a backup"
    )
    .into()
}
