//! The calls about parked streams.

use std::sync::Arc;

use eventodb_protocol::group::reply::{Flowing, ParkAttempts, ParkedListed, Retried, Skipped};
use eventodb_protocol::request::group::{Handled, Park, ParkedPage, Retry, Skip};

use super::{Groups, Named};
use crate::error::{Error, Result};
use crate::groups::{Group, Moment, SkippedMessages};

impl Groups {
    /// `group.park`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn park(&self, group: impl Into<Named>, member: &str, park: Park) -> Result<ParkAttempts> {
        let group = group.into();
        let (slot, mut definition) = (self.slot(&group), self.definition(&group).await?);
        let (member, park) = (Arc::<str>::from(member), Arc::new(park));
        loop {
            let failed = self.decider.failed(&definition, park.position).await?;
            let (member, park, asked) = (Arc::clone(&member), Arc::clone(&park), Arc::clone(&definition));
            let named = vec![Arc::clone(&member)];
            let decide = move |group: &mut Group, at: &mut Moment| {
                // Another group of this name may have taken its place.
                let is_asked = *group.definition() == asked;
                is_asked.then(|| group.park(&member, &park, failed.as_ref(), at)).transpose()
            };
            match slot.decide_for(&self.decider, named, None, decide).await? {
                (Some(attempts), _) => return Ok(attempts),
                (None, decided) => definition = Arc::clone(decided.group.definition()),
            }
        }
    }

    /// `group.handled`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn handled(&self, group: impl Into<Named>, member: &str, handled: Handled) -> Result<Flowing> {
        let group = group.into();
        let slot = self.slot(&group);
        let (member, handled) = (Arc::<str>::from(member), Arc::new(handled));
        let mut definition = self.definition(group).await?;
        // What was seen of the group last tells what will be asked, most likely.
        let mut span = slot.known.last_seen().and_then(|group| group.handled_span(&handled));
        loop {
            let is_left = match &span {
                Some(span) => self.decider.is_left(&definition, span).await?,
                None => false,
            };
            let (member, handled) = (Arc::clone(&member), Arc::clone(&handled));
            let asked = (span.clone(), Arc::clone(&definition));
            let named = vec![Arc::clone(&member)];
            let decide = move |group: &mut Group, at: &mut Moment| {
                let asks = (group.handled_span(&handled), Arc::clone(group.definition()));
                if asks == asked { group.handled(&member, &handled, is_left, at).map(Ok) } else { Ok(Err(asks)) }
            };
            match slot.decide_for(&self.decider, named, None, decide).await? {
                (Ok(flowing), _) => return Ok(flowing),
                (Err(asks), decided) => {
                    self.decider.reader.show(decided.at.head).await?;
                    (span, definition) = asks;
                }
            }
        }
    }

    /// `group.parked`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn parked(&self, group: impl Into<Named>, page: ParkedPage) -> Result<Vec<ParkedListed>> {
        Ok(self.now(&self.slot(group)).await?.group.parked(&page))
    }

    /// `group.retry`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn retry(&self, group: impl Into<Named>, retry: Retry) -> Result<Retried> {
        let decide = move |group: &mut Group, at: &mut Moment| Ok(group.retry(&retry, at));
        Ok(self.slot(group).decide(&self.decider, decide).await?.0)
    }

    /// `group.skip`. The audit names the `token`.
    ///
    /// # Errors
    /// As [`Self::definition`].
    pub async fn skip(&self, group: impl Into<Named>, skip: Skip, token: Option<String>) -> Result<Skipped> {
        let slot = self.slot(group);
        let skip = Arc::new(skip);
        let mut decided = self.now(&slot).await?;
        loop {
            self.decider.reader.show(decided.at.head).await?;
            let span = decided.group.skip_span(&skip, &decided.at).map_err(Error::Group)?;
            let skipped = match &span {
                Some(span) => self.decider.skipped(decided.group.definition(), span).await?,
                None => SkippedMessages::default(),
            };
            let call = Arc::clone(&skip);
            let decide = move |group: &mut Group, at: &mut Moment| {
                let is_asked = group.skip_span(&call, at)? == span;
                Ok(is_asked.then(|| group.skip(&call, skipped.clone(), at)))
            };
            match slot.decide_for(&self.decider, Vec::new(), token.clone(), decide).await? {
                (Some(reply), _) => return Ok(reply),
                (None, again) => decided = again,
            }
        }
    }
}
