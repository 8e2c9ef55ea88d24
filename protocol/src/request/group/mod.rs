//! The arguments of the `group.*` methods.
//!
//! Each `parse` reads what stands behind the group's name, because an unknown group is reported before a wrong argument.

mod act;
mod atomic;
mod manage;
mod member;

use std::collections::BTreeMap;

use super::{Call, Options, integer};
use crate::group::Epoch;
use crate::limits::{PARTITIONS, POSITION_MAX};
use crate::{Error, json};

pub use act::{Handled, Park, Retry, Skip};
pub use atomic::{AtomicForm, GroupForm};
pub use manage::{
    Adopted, AuditPage, CreateGroup, ParkedPage, ResetGroup, ResetTo, ResizeGroup, Start, UpdateGroup, Wait,
};
pub use member::{Join, Leave, MemberCall, Presented, ReadGroup};

/// Reads the next argument as the name of a group.
///
/// # Errors
/// `INVALID_REQUEST` naming it.
pub fn group_name(call: &mut Call<'_>, limits: &crate::Limits) -> Result<String, Error> {
    Ok(call.name("group", limits)?.into_owned())
}

/// An option that is an integer within these bounds.
fn bounded(options: &Options<'_>, name: &str, least: i64, most: i64) -> Result<Option<i64>, Error> {
    match options.integer(name)? {
        Some(given) if !(least..=most).contains(&given) => {
            Err(Error::invalid(format!("{} must be between {least} and {most}", options.full(name))))
        }
        given => Ok(given),
    }
}

/// An option that is 0 or more: a position, an epoch, a duration.
fn natural(options: &Options<'_>, name: &str) -> Result<Option<i64>, Error> {
    bounded(options, name, 0, POSITION_MAX)
}

/// An option that is a partition's number.
fn partition(options: &Options<'_>) -> Result<Option<u32>, Error> {
    let number = bounded(options, "partition", 0, i64::from(PARTITIONS) - 1)?;
    Ok(number.and_then(|number| u32::try_from(number).ok()))
}

/// An option that must be given.
fn needed<T>(options: &Options<'_>, name: &str, given: Option<T>) -> Result<T, Error> {
    given.ok_or_else(|| Error::invalid(format!("{} is required", options.full(name))))
}

/// An option that is a list of partitions' numbers, without repetition, ascending.
fn partitions(options: &Options<'_>, name: &str) -> Result<Option<Vec<u32>>, Error> {
    let Some(text) = options.raw(name) else { return Ok(None) };
    let name = options.full(name);
    let wrong = || Error::invalid(format!("{name} must be an array of partitions' numbers, at most {PARTITIONS}"));
    let elements = json::elements(text).ok_or_else(wrong)?;
    if elements.clone().count() > PARTITIONS as usize {
        return Err(wrong());
    }
    let mut numbers = elements.map(|text| text.parse()).collect::<Result<Vec<u32>, _>>().map_err(|_| wrong())?;
    numbers.sort_unstable();
    numbers.dedup();
    Ok(Some(numbers))
}

/// An option that is an object by partition. The last of repeated members counts.
fn by_partition<T>(
    options: &Options<'_>,
    name: &str,
    read: impl Fn(&str, &str) -> Result<T, Error>,
) -> Result<BTreeMap<u32, T>, Error> {
    let Some(object) = options.object(name)? else { return Ok(BTreeMap::new()) };
    let name = options.full(name);
    let members = json::members(object).ok_or_else(|| Error::invalid(format!("{name} must be an object")))?;
    let mut entries = BTreeMap::new();
    for (key, value) in members {
        let key = json::string(key).filter(|key| key.len() <= 6 && key.bytes().all(|byte| byte.is_ascii_digit()));
        let number = key
            .and_then(|key| key.parse().ok())
            .ok_or_else(|| Error::invalid(format!("the members' names in {name} must be partitions' numbers")))?;
        entries.insert(number, read(&format!("{name}.{number}"), value)?);
        if entries.len() > PARTITIONS as usize {
            return Err(Error::invalid(format!("{name} must have at most {PARTITIONS} partitions")));
        }
    }
    Ok(entries)
}

/// An epoch that a member of an object by partition has.
fn epoch(name: &str, text: &str) -> Result<Epoch, Error> {
    let number = integer(name, text)?;
    if !(0..=POSITION_MAX).contains(&number) {
        return Err(Error::invalid(format!("{name} must be between 0 and {POSITION_MAX}")));
    }
    Ok(Epoch::from_number(number))
}

#[cfg(test)]
mod tests;
