//! How much of its quota a namespace has left.
//!
//! **Messages** are exact. Each message takes a position, so that a count that was taken at one position bounds the count
//! at a later one. As long as a batch fits by that bound, nothing is asked. Otherwise the storage is asked for its count,
//! with no batch under way. A batch happens only directly behind the one that it was planned on, so that several servers
//! together do not exceed the quota either.
//!
//! **Bytes** are what the storage takes. It is measured at most once in [`MEASURE`], while messages are written; what this
//! server has planned since is added. Other servers may exceed the quota by what they write within that time.

use std::time::Duration;

use eventodb_protocol::reply::Quota;
use tokio::time::Instant;

use super::queue::Pending;
use crate::error::Result;
use crate::storage::Storage;

/// How long a measurement of bytes is good for.
const MEASURE: Duration = Duration::from_secs(1);

/// How much a log holds, as far as it was looked at.
#[derive(Default)]
pub(super) struct Usage {
    /// A number of messages, and a position at or below the one that it was taken at.
    counted: Option<(u64, i64)>,
    /// Bytes of the storage, and when they were measured.
    measured: Option<(u64, Instant)>,
    /// Bytes of batches that were planned since.
    planned: u64,
}

/// How much a batch may bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

impl Room {
    /// There is no quota.
    const ENDLESS: Self = Self { messages: u64::MAX, bytes: u64::MAX };
}

impl Usage {
    /// Whether a batch of these appends surely fits behind the position `after`, as far as it is known without asking.
    pub(super) fn fits(&self, quota: Quota, after: i64, pending: &[Pending]) -> bool {
        let fits = |most: i64| self.at(after).is_some_and(|held| held.saturating_add(messages(pending)) <= bound(most));
        quota.messages.is_none_or(fits)
    }

    /// How much a batch of these appends may bring behind the position `after`. Where [`Self::fits`] does not hold,
    /// no batch is under way and `after` is the known head.
    ///
    /// # Errors
    /// Those of [`Storage`].
    pub(super) async fn room(
        &mut self,
        quota: Quota,
        after: i64,
        pending: &[Pending],
        storage: &dyn Storage,
    ) -> Result<Room> {
        let mut room = Room::ENDLESS;
        if let Some(most) = quota.messages {
            let is_exact = self.counted.is_some_and(|(_, position)| position == after);
            if !is_exact && !self.fits(quota, after, pending) {
                self.counted = Some((storage.counts().await?.messages, after));
            }
            room.messages = bound(most).saturating_sub(self.at(after).unwrap_or(u64::MAX));
        }
        if let Some(most) = quota.bytes {
            let held = match self.measured {
                Some((bytes, at)) if at.elapsed() < MEASURE => bytes,
                _ => {
                    let bytes = storage.bytes().await?;
                    (self.measured, self.planned) = (Some((bytes, Instant::now())), 0);
                    bytes
                }
            };
            room.bytes = bound(most).saturating_sub(held.saturating_add(self.planned));
        }
        Ok(room)
    }

    /// A batch of this many bytes is planned.
    pub(super) fn plan(&mut self, bytes: u64) {
        self.planned = self.planned.saturating_add(bytes);
    }

    /// At most this many messages stand up to a position.
    fn at(&self, position: i64) -> Option<u64> {
        let (messages, counted_at) = self.counted?;
        Some(messages.saturating_add(u64::try_from(position.checked_sub(counted_at)?).ok()?))
    }
}

fn messages(pending: &[Pending]) -> u64 {
    pending.iter().map(|pending| pending.work.len() as u64).sum()
}

fn bound(most: i64) -> u64 {
    u64::try_from(most).unwrap_or(0)
}
