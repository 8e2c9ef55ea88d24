//! What appends do to groups: a checkpoint, a handled retry, or only the check of an epoch, in the append's own commit.
//!
//! What such an append has to know of the log is looked up before it waits, as conditions are. The sequencer decides it
//! on the group as it is then, and if another question had to be asked, the append goes round once more.

use std::collections::BTreeSet;
use std::sync::Arc;

use eventodb_protocol::message::{Message, MessageRef};
use eventodb_protocol::request::group::GroupForm;
use eventodb_protocol::{Direction, Filter, Scope};
use foldhash::{HashMap, HashMapExt as _};
use tokio::sync::OwnedMutexGuard;

use super::super::base::Base;
use super::super::known::KnownGroup;
use super::Writer;
use super::queue::Pending;
use crate::error::{Error, Result};
use crate::groups::{Asked, Change, Definition, Group, Known, Moment, Span};
use crate::model::{Axis, Columns, Select};

/// What is known of the log for what an append does to a group.
#[derive(Debug)]
pub(super) struct Deed {
    asked: Asked,
    told: Told,
    /// Of the group for which it was asked; another one of its name may have taken its place.
    definition: Option<Arc<Definition>>,
}

/// What the log says.
#[derive(Debug)]
enum Told {
    Nothing,
    /// The position was above the head.
    NotThere,
    Message {
        stream: Arc<str>,
        kind: Arc<str>,
    },
    IsLeft(bool),
}

/// A group while a batch is planned.
pub(super) struct Acting {
    known: Arc<KnownGroup>,
    /// Held until the batch has landed.
    _turn: OwnedMutexGuard<()>,
    version: i64,
    group: Group,
    at: Moment,
    is_changed: bool,
}

/// Groups by name while a batch is planned; `None` for one that does not exist.
pub(super) type ActingGroups = HashMap<Arc<str>, Option<Acting>>;

impl Deed {
    /// Looks up what a form most likely needs, by what was last seen of its group.
    ///
    /// # Errors
    /// Those of [`crate::storage::Storage`], and [`Error::Damaged`].
    pub(super) async fn look(form: &GroupForm, writer: &Arc<Writer>) -> Result<Self> {
        let base = &writer.base;
        let known = base.groups.get(&form.group);
        if known.last_seen().is_none() {
            match base.groups.look(&known, Vec::new(), base.window.head()).await {
                Ok((version, group, _)) => known.learn(version, Arc::new(group), false),
                // The sequencer finds out; a repeated append does not ask for the group.
                Err(Error::GroupNotFound) => return Ok(Self::of_no_group()),
                Err(error) => return Err(error),
            }
        }
        let Some(group) = known.last_seen() else { return Ok(Self::of_no_group()) };
        let asked = group.commit_asks(&form.form);
        let told = match &asked {
            Asked::Nothing => Told::Nothing,
            Asked::Message(position) => match writer.shows(*position).await? {
                true => message_at(base, *position).await?,
                // It is refused, unless it was written just now.
                false => Told::NotThere,
            },
            Asked::Span(span) => {
                let is_shown = writer.shows(span.upto).await?;
                Told::IsLeft(!is_shown || is_left(base, group.definition(), span).await?)
            }
        };
        Ok(Self { asked, told, definition: Some(Arc::clone(group.definition())) })
    }

    fn of_no_group() -> Self {
        Self { asked: Asked::Nothing, told: Told::Nothing, definition: None }
    }
}

impl Acting {
    /// The groups that these appends act on, as they are now.
    ///
    /// # Errors
    /// As [`crate::storage::groups::GroupStorage::look`].
    pub(super) async fn all(base: &Base, pending: &[Pending]) -> Result<ActingGroups> {
        // In the same order everywhere.
        let names: BTreeSet<&str> =
            pending.iter().filter_map(|pending| pending.work.form()).map(|form| &*form.group).collect();
        let mut groups = ActingGroups::new();
        for name in names {
            let known = base.groups.get(name);
            let turn = Arc::clone(&known.turn).lock_owned().await;
            let acting = match base.groups.look(&known, Vec::new(), base.window.head()).await {
                Ok((version, group, at)) => Some(Self { known, _turn: turn, version, group, at, is_changed: false }),
                Err(Error::GroupNotFound) => None,
                Err(error) => return Err(error),
            };
            groups.insert(name.into(), acting);
        }
        Ok(groups)
    }

    /// Does what an append does to the group. `Ok(false)` if something else has to be asked of the log first.
    ///
    /// # Errors
    /// [`Error::Group`].
    pub(super) fn act(&mut self, form: &GroupForm, deed: &Deed) -> Result<bool> {
        let is_of_this = deed.definition.as_ref().is_none_or(|definition| definition == self.group.definition());
        if !is_of_this || self.group.commit_asks(&form.form) != deed.asked {
            return Ok(false);
        }
        let known = match &deed.told {
            Told::NotThere if matches!(deed.asked, Asked::Message(position) if position <= self.at.head) => {
                return Ok(false);
            }
            Told::Nothing | Told::NotThere => Known::Nothing,
            Told::Message { stream, kind } => Known::Message { stream, kind },
            Told::IsLeft(is_left) => Known::IsLeft(*is_left),
        };
        self.group.commit(&form.form, known, &self.at).map_err(Error::Group)?;
        self.is_changed = true;
        Ok(true)
    }

    /// Those that were changed, by name.
    pub(super) fn of(groups: ActingGroups) -> Vec<Self> {
        let mut acting: Vec<Self> = groups.into_values().flatten().filter(|acting| acting.is_changed).collect();
        acting.sort_unstable_by(|a, b| a.known.name.cmp(&b.known.name));
        acting
    }

    /// What is stored with the batch. An append gives no epochs, so that none is taken.
    pub(super) fn change(&self) -> Change {
        Change::new(&self.known.name, Some(self.version), &self.group, self.at.last_epoch, &self.at)
    }

    /// The batch is committed.
    pub(super) fn landed(mut self) {
        self.group.settle();
        self.known.learn(self.version + 1, Arc::new(self.group), true);
    }
}

/// The message at a position that is shown.
async fn message_at(base: &Base, position: i64) -> Result<Told> {
    let filter = Arc::new(Filter::new(Scope::All));
    let slice = slice(base, filter, position, position, Columns::All).await?;
    let told = |message: MessageRef<'_>| Told::Message { stream: message.stream.into(), kind: message.kind.into() };
    Ok(slice.0.map_or(Told::Nothing, |message| told(message.as_ref())))
}

/// Whether there is a message in a span that is shown.
async fn is_left(base: &Base, definition: &Definition, span: &Span) -> Result<bool> {
    let types = definition.types.iter().map(|kind| Arc::from(&**kind)).collect();
    let filter = Arc::new(Filter { types, ..Filter::new(Scope::Stream(Arc::clone(&span.stream))) });
    let mut above = span.above;
    while above < span.upto {
        let (first, covered) = slice(base, Arc::clone(&filter), above + 1, span.upto, Columns::Positions).await?;
        if first.is_some() {
            return Ok(true);
        }
        above = covered;
    }
    Ok(false)
}

/// The first message of a slice, and how far the slice reaches.
async fn slice(
    base: &Base,
    filter: Arc<Filter>,
    from: i64,
    to: i64,
    columns: Columns,
) -> Result<(Option<Message>, i64)> {
    base.window.open_or_closed()?;
    let (direction, bytes) = (Direction::Forward, base.settings.slice_bytes);
    let select = Select { filter, axis: Axis::Global, from, to, head: to, direction, rows: 1, bytes, columns };
    if let Some(found) = base.window.read(&select) {
        return Ok((found.entries.first().map(|entry| entry.message().clone()), found.covered));
    }
    let _turn = base.call_reads().await?;
    let slice = base.storage.read(&select).await?;
    Ok((slice.rows.last().map(MessageRef::to_message), slice.covered))
}
