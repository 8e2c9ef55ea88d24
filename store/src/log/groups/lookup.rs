//! What decisions ask of the log.

use std::ops::ControlFlow;
use std::sync::Arc;

use eventodb_protocol::message::Message;
use eventodb_protocol::{Filter, Scope};

use super::decider::Decider;
use crate::error::{Error, Result};
use crate::groups::{Definition, Failed, SkippedMessages, Span};
use crate::log::read::Scan;
use crate::model::Columns;

/// Positions of skipped messages that the audit keeps.
const SKIPPED_LISTED: usize = 1_000;

/// What a group reads of a scope.
pub(super) fn filter(definition: &Definition, scope: Scope) -> Arc<Filter> {
    Arc::new(definition.filter(scope))
}

/// The scope of everything that a group reads.
pub(super) fn scope(definition: &Definition) -> Scope {
    if definition.categories.is_empty() {
        return Scope::All;
    }
    Scope::Categories(definition.categories.iter().map(|name| Arc::from(&**name)).collect())
}

impl Decider {
    /// The answer to a question about one stream. It ends with a damaged message, of which only the position is known.
    pub(super) async fn left(&self, definition: &Definition, span: &Span) -> Result<Vec<i64>> {
        let mut positions = Vec::new();
        let scan = self.stream_scan(definition, span, span.limit);
        let scanned = self
            .reader
            .scan(&scan, |message| {
                positions.push(message.global_position);
                if positions.len() < span.limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .await?;
        positions.extend(scanned.damaged);
        Ok(positions)
    }

    /// Whether there is a message in the span. What lies above the head may be anything.
    pub(super) async fn is_left(&self, definition: &Definition, span: &Span) -> Result<bool> {
        if span.upto > self.base.window.head() && span.upto > self.reader.confirm_head().await? {
            return Ok(true);
        }
        Ok(!self.left(definition, span).await?.is_empty())
    }

    /// The answers to several questions.
    pub(super) async fn all_left(&self, definition: &Definition, spans: &[Span]) -> Result<Vec<Vec<i64>>> {
        let mut left = Vec::with_capacity(spans.len());
        for span in spans {
            left.push(self.left(definition, span).await?);
        }
        Ok(left)
    }

    /// The messages that a skip concerns.
    ///
    /// # Errors
    /// [`Error::Damaged`]: what cannot be read cannot be put on record. It can be given up.
    pub(super) async fn skipped(&self, definition: &Definition, span: &Span) -> Result<SkippedMessages> {
        let mut skipped = SkippedMessages::default();
        let scan = self.stream_scan(definition, span, usize::MAX);
        let scanned = self
            .reader
            .scan(&scan, |message| {
                skipped.count += 1;
                if skipped.first.len() < SKIPPED_LISTED {
                    skipped.first.push(message.global_position);
                }
                ControlFlow::Continue(())
            })
            .await?;
        scanned.damaged.map_or(Ok(skipped), |at| Err(Error::Damaged(at)))
    }

    /// The message at a position, if there is one.
    ///
    /// # Errors
    /// [`Error::Damaged`], and as [`super::super::Log::read`].
    pub(super) async fn message_at(&self, position: i64) -> Result<Option<Message>> {
        let mut found = None;
        let filter = Arc::new(Filter::new(Scope::All));
        let scan = Scan { filter, above: position - 1, upto: position, columns: Columns::All, rows: 1 };
        let scanned = self
            .reader
            .scan(&scan, |message| {
                found = Some(message.to_message());
                ControlFlow::Break(())
            })
            .await?;
        scanned.damaged.map_or(Ok(found), |at| Err(Error::Damaged(at)))
    }

    /// The message that a member wants to park.
    pub(super) async fn failed(&self, definition: &Definition, position: i64) -> Result<Option<Failed>> {
        if position <= 0 || position > self.reader.confirm_head().await? {
            return Ok(None);
        }
        let Some(Message { stream, kind, .. }) = self.message_at(position).await? else { return Ok(None) };
        let in_stream = filter(definition, Scope::Stream(Arc::clone(&stream)));
        let previous = self.reader.last_below(&in_stream, position).await?.unwrap_or_default();
        Ok(Some(Failed { stream, kind, previous }))
    }

    fn stream_scan(&self, definition: &Definition, span: &Span, rows: usize) -> Scan {
        let filter = filter(definition, Scope::Stream(Arc::clone(&span.stream)));
        // A position above the head is refused later.
        let upto = span.upto.min(self.base.window.head());
        Scan { filter, above: span.above, upto, columns: Columns::Positions, rows }
    }
}
