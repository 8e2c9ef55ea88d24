//! The group's half of an atomic append: options of `stream.write`, `stream.append` and `streams.append`.

use super::act::{Handled, right};
use super::{natural, needed};
use crate::group::Epoch;
use crate::request::Options;
use crate::{Error, Limits, name};

const CHECKPOINT_MEMBERS: &[&str] = &["group", "partition", "epoch", "position"];
const HANDLED_MEMBERS: &[&str] = &["group", "partition", "epoch", "stream", "position", "readTo"];
const FENCE_MEMBERS: &[&str] = &["group", "partition", "epoch"];

/// What happens to a group in the same commit as an append, or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupForm {
    /// The group.
    pub group: String,
    /// What happens.
    pub form: AtomicForm,
}

/// What happens to a group in the commit of an append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtomicForm {
    /// The partition is handled up to a position.
    Checkpoint {
        /// Which partition.
        partition: u32,
        /// The epoch under which the member has it.
        epoch: Epoch,
        /// The position.
        position: i64,
    },
    /// Messages of a parked stream were handled.
    Handled(Handled),
    /// Only the epoch is checked.
    Fence {
        /// Which partition.
        partition: u32,
        /// The epoch that is to be its current one.
        epoch: Epoch,
    },
}

impl GroupForm {
    /// The names of the options of which a write may have one.
    pub const OPTIONS: [&'static str; 3] = ["checkpoint", "handled", "fence"];

    /// Reads the one of [`Self::OPTIONS`] that a write has. All of them must be among the names that `options` knows.
    ///
    /// # Errors
    /// `INVALID_REQUEST` naming the option.
    pub fn parse(options: &Options<'_>, limits: &Limits) -> Result<Option<Self>, Error> {
        let mut forms = Vec::new();
        for name in Self::OPTIONS {
            if let Some(text) = options.object(name)? {
                forms.push((name, text));
            }
        }
        match forms[..] {
            [] => Ok(None),
            [("checkpoint", text)] => checkpoint(text, limits).map(Some),
            [("handled", text)] => handled(text, limits).map(Some),
            [(_, text)] => fence(text, limits).map(Some),
            _ => Err(Error::invalid("a write may have one of checkpoint, handled and fence")),
        }
    }
}

fn checkpoint(text: &str, limits: &Limits) -> Result<GroupForm, Error> {
    let options = Options::parse("checkpoint", "checkpoint.", text, CHECKPOINT_MEMBERS)?;
    let (partition, epoch) = right(&options)?;
    let position = needed(&options, "position", natural(&options, "position")?)?;
    Ok(GroupForm { group: group(&options, limits)?, form: AtomicForm::Checkpoint { partition, epoch, position } })
}

fn handled(text: &str, limits: &Limits) -> Result<GroupForm, Error> {
    let options = Options::parse("handled", "handled.", text, HANDLED_MEMBERS)?;
    let form = AtomicForm::Handled(Handled::read_atomic(&options, limits)?);
    Ok(GroupForm { group: group(&options, limits)?, form })
}

fn fence(text: &str, limits: &Limits) -> Result<GroupForm, Error> {
    let options = Options::parse("fence", "fence.", text, FENCE_MEMBERS)?;
    let (partition, epoch) = right(&options)?;
    Ok(GroupForm { group: group(&options, limits)?, form: AtomicForm::Fence { partition, epoch } })
}

fn group(options: &Options<'_>, limits: &Limits) -> Result<String, Error> {
    let group = needed(options, "group", options.string("group")?)?;
    name::check(&options.full("group"), &group, limits)?;
    Ok(group.into_owned())
}
