//! What appends do to groups: a checkpoint, a handled retry, or only the check of an epoch, in the append's own commit.
//!
//! What such an append has to know of the log is looked up before it waits, as conditions are. The sequencer decides it
//! on the group as it is then. If another question had to be asked, or the group is busy, the append goes round once more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::message::{Message, MessageRef};
use eventodb_protocol::request::group::GroupForm;
use eventodb_protocol::{Direction, Filter, Scope};
use foldhash::{HashMap, HashMapExt as _};
use rand::RngExt as _;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::super::base::Base;
use super::super::known::{self, KnownGroup};
use super::Writer;
use super::queue::Pending;
use crate::error::{Error, Result};
use crate::groups::{Allowed, Asked, Change, Definition, Group, Known, Moment, Span};
use crate::model::{Axis, Columns, Select};
use crate::storage::groups::Version;

/// What is known of the log for what an append does to a group.
#[derive(Debug)]
pub(super) struct Deed {
    asked: Asked,
    told: Told,
    /// Of the group for which it was asked; another one of its name may have taken its place.
    definition: Option<Arc<Definition>>,
    /// Which groups of the name the caller may touch.
    allowed: Allowed,
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
    version: Version,
    /// The version once the batch has landed.
    next: Version,
    group: Group,
    at: Moment,
    is_changed: bool,
}

/// Groups by name while a batch is planned; `None` for one whose turn others have. One that cannot be read fails only the
/// appends that act on it.
pub(super) type ActingGroups = HashMap<Arc<str>, Result<Option<Acting>>>;

/// How long a batch waits for the turns of its groups.
const TURNS_WITHIN: Duration = Duration::from_millis(50);
/// How often an append on a group is decided, before its caller is told that the group is busy.
const ROUNDS: u32 = 100;
/// Rounds after which other servers are asked to leave the group alone for a moment.
const LOST: u32 = 8;
/// The longest pause between two rounds.
const PAUSE: Duration = Duration::from_millis(20);

/// How often an append on a group has gone round.
#[derive(Debug, Default)]
pub(super) struct Rounds(u32);

impl Rounds {
    /// Pauses before one more round, at random, so that servers do not stay in step. The first one is not waited for:
    /// most often the log had to be asked something else.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if there were too many.
    pub(super) async fn next(&mut self, base: &Base, group: &str) -> Result<()> {
        self.0 += 1;
        if self.0 >= ROUNDS {
            return Err(Error::unavailable("others change the group all the time"));
        }
        if self.0.is_multiple_of(LOST) {
            base.groups.storage.want(group);
        }
        if self.0 > 1 {
            let part: f64 = rand::rng().random();
            tokio::time::sleep(PAUSE.mul_f64(part)).await;
        }
        Ok(())
    }
}

impl Deed {
    /// Looks up what a form most likely needs, by what was last seen of its group.
    ///
    /// # Errors
    /// Those of [`crate::storage::Storage`], and [`Error::Damaged`].
    pub(super) async fn look(form: &GroupForm, allowed: &Allowed, writer: &Arc<Writer>) -> Result<Self> {
        let base = &writer.base;
        let known = base.groups.get(&form.group);
        if known.last_seen().is_none() {
            // What is learned must not take the place of what a decision has learned meanwhile.
            let _turn = known.turn.lock().await;
            if known.last_seen().is_none() {
                match base.groups.look(&known, Vec::new(), base.window.head()).await {
                    // The sequencer finds out; a repeated append does not ask for the group.
                    Ok(_) | Err(Error::GroupNotFound | Error::Failed(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let Some(group) = known.last_seen() else { return Ok(Self::of_no_group(allowed)) };
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
        Ok(Self { asked, told, definition: Some(Arc::clone(group.definition())), allowed: allowed.clone() })
    }

    pub(super) fn of_no_group(allowed: &Allowed) -> Self {
        Self { asked: Asked::Nothing, told: Told::Nothing, definition: None, allowed: allowed.clone() }
    }
}

impl Acting {
    /// The groups that these appends act on, as they are now.
    pub(super) async fn all(base: &Base, pending: &[Pending]) -> ActingGroups {
        // In the same order everywhere.
        let names: BTreeSet<&str> =
            pending.iter().filter_map(|pending| pending.work.form()).map(|form| &*form.group).collect();
        let mut groups = ActingGroups::new();
        let patience = Instant::now() + TURNS_WITHIN;
        for name in names {
            let known = base.groups.get(name);
            let turn = Arc::clone(&known.turn).lock_owned();
            let acting = match tokio::time::timeout_at(patience, turn).await {
                Ok(turn) => Self::now(base, known, turn).await.map(Some),
                Err(_) => Ok(None),
            };
            groups.insert(name.into(), acting);
        }
        groups
    }

    /// A group as it is now.
    async fn now(base: &Base, known: Arc<KnownGroup>, turn: OwnedMutexGuard<()>) -> Result<Self> {
        let head = base.window.head();
        let (version, group, at) = match base.groups.remember(&known, &[], head) {
            Some(remembered) => remembered,
            None => base.groups.look(&known, Vec::new(), head).await?,
        };
        let next = version.following(known::stamp());
        Ok(Self { known, _turn: turn, version, next, group, at, is_changed: false })
    }

    /// Does what an append does to the group. `Ok(false)` if something else has to be asked of the log first.
    ///
    /// # Errors
    /// [`Error::Group`], [`Error::GroupNotFound`].
    pub(super) fn act(&mut self, form: &GroupForm, deed: &Deed) -> Result<bool> {
        if !deed.allowed.allows(self.group.definition()) {
            return Err(Error::GroupNotFound);
        }
        self.group.check_home(&form.form, &self.at).map_err(Error::Group)?;
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
        let groups = groups.into_values().filter_map(|acting| acting.ok().flatten());
        let mut acting: Vec<Self> = groups.filter(|acting| acting.is_changed).collect();
        acting.sort_unstable_by(|a, b| a.known.name.cmp(&b.known.name));
        acting
    }

    /// What is stored with the batch. An append gives no epochs, so that none is taken.
    pub(super) fn change(&self) -> Change {
        let epoch = self.at.last_epoch;
        Change::new(&self.known.name, Some(self.version), self.next.stamp, &self.group, epoch, &self.at)
    }

    /// The batch is committed.
    pub(super) fn landed(mut self) {
        self.is_changed = false;
        self.group.settle();
        self.known.learn(self.next, Arc::new(self.group.clone()), true);
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if self.is_changed {
            // The batch was given up: lost to another server, or nobody knows.
            self.known.doubt();
        }
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
    let filter = Arc::new(definition.filter(Scope::Stream(Arc::clone(&span.stream))));
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
    if let Some(found) = base.recent(&select) {
        return Ok((found.entries.first().map(|entry| entry.message().clone()), found.covered));
    }
    let _turn = base.call_reads().await?;
    let slice = base.stored(&select).await?;
    Ok((slice.rows.last().map(MessageRef::to_message), slice.covered))
}
