//! The preloaded log, read once: by pages, and by a subscription.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::Context as _;

use super::Turn;
use super::read::Pages;
use crate::load::Loaded;
use crate::measure::Measured;
use crate::session::Session;
use crate::wire::{Events, pokes};

/// Pokes of a subscription that catches up, at most.
const MOST_POKES: u64 = 1_000_000;

/// Reads all preloaded messages by pages.
pub(super) async fn pages(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (address, last) = (turn.main(), turn.session.filled().await?.last);
    let mut loaded = turn.load(&address, vec![Pages::all(&address, last)]).await?;
    expect_all(turn.session, &mut loaded, last);
    Ok(loaded)
}

/// Reads pokes from the first one on.
pub(super) async fn subscription(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let (gauge, wanted) = (turn.gauge(), turn.session.filled().await?.last.min(MOST_POKES));
    let head = i64::try_from(wanted).context("a head beyond all positions")?;
    let (mut measured, begin) = (Measured::default(), Instant::now());
    let mut events = Events::open(&turn.main(), "all=true&position=1").await?;
    let mut last = 0;
    while last < head && !gauge.is_stopped() {
        let (asked, mut found, mut in_order) = (Instant::now(), 0, true);
        let take = |frames: &[u8]| {
            for position in pokes(frames) {
                in_order &= position > last;
                (last, found) = (position, found + 1);
            }
        };
        events.next(take).await?;
        anyhow::ensure!(in_order, "pokes out of order near {last}");
        gauge.requests.fetch_add(found, Ordering::Relaxed);
        measured.answer(asked.elapsed(), begin.elapsed(), found);
    }
    let mut loaded = Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() };
    expect_all(turn.session, &mut loaded, wanted);
    Ok(loaded)
}

/// The bench's own log has no gaps, so that a reader of the first `last` positions sees as many messages.
pub(super) fn expect_all(session: &Session, loaded: &mut Loaded, last: u64) {
    let seen = loaded.measured.messages;
    if session.hosts.backend().is_some() && seen < last && !session.gauge.is_stopped() {
        loaded.measured.error(&anyhow::anyhow!("{seen} of {last} messages were seen"));
    }
}
