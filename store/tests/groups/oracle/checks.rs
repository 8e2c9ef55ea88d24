//! Requests: error replies, and the checks of options.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

pub(crate) const HOUR: i64 = 3_600_000;
pub(crate) const SAFE: i64 = (1 << 53) - 1;

/// An error reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) details: Value,
}

pub(crate) type Answer = Result<Value, Refused>;

impl Refused {
    pub(crate) fn new(code: &'static str, message: impl Into<String>, details: Value) -> Self {
        Self { code, message: message.into(), details }
    }

    /// `details.reason` of a `FENCED` reply.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.details.get("reason")?.as_str()
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Refused {
    Refused::new("INVALID_REQUEST", message, Value::Null)
}

pub(crate) fn fenced(reason: &str) -> Refused {
    Refused::new("FENCED", format!("fenced: {reason}"), json!({ "reason": reason }))
}

pub(crate) fn fenced_in(reason: &str, partition: usize) -> Refused {
    Refused::new("FENCED", format!("fenced: {reason}"), json!({ "reason": reason, "partition": partition }))
}

pub(crate) fn number(value: &Value, name: &str, low: i64, high: i64) -> Result<i64, Refused> {
    value
        .as_i64()
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| invalid(format!("{name} must be an integer from {low} to {high}")))
}

pub(crate) fn text<'a>(value: &'a Value, name: &str, low: usize, high: usize) -> Result<&'a str, Refused> {
    value
        .as_str()
        .filter(|text| (low..=high).contains(&text.len()))
        .filter(|text| high != 255 || !text.chars().any(char::is_control))
        .ok_or_else(|| invalid(format!("{name} must be a string of {low} to {high} bytes")))
}

/// The members of an object, without those that are null.
pub(crate) fn options(given: Option<&Value>, known: &[&str]) -> Result<Map<String, Value>, Refused> {
    match given {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(given)) => {
            if let Some(name) = given.keys().find(|name| !known.contains(&name.as_str())) {
                return Err(invalid(format!("unknown option {name:?}; known: {}", known.join(", "))));
            }
            Ok(given.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        Some(_) => Err(invalid("options must be an object")),
    }
}

pub(crate) fn need<'a>(given: &'a Map<String, Value>, name: &str) -> Result<&'a Value, Refused> {
    given.get(name).ok_or_else(|| invalid(format!("{name} is missing")))
}

/// An option that is a number, or what stands for it.
pub(crate) fn number_or(
    given: &Map<String, Value>,
    name: &str,
    low: i64,
    high: i64,
    default: i64,
) -> Result<i64, Refused> {
    given.get(name).map_or(Ok(default), |value| number(value, name, low, high))
}

pub(crate) fn names(given: &Map<String, Value>, name: &str) -> Result<BTreeSet<String>, Refused> {
    let Some(value) = given.get(name) else { return Ok(BTreeSet::new()) };
    let list = value.as_array().filter(|list| list.len() <= 100);
    let list = list.ok_or_else(|| invalid(format!("{name} must be a list of at most 100 names")))?;
    list.iter().map(|value| text(value, name, 1, 255).map(str::to_owned)).collect()
}

/// `{"3": {"epoch": e, "position": n}}`: the epoch and the position by partition.
pub(crate) fn positions(given: &Map<String, Value>, name: &str) -> Result<BTreeMap<usize, (i64, i64)>, Refused> {
    by_partition(given, name, |entry| {
        let entry = options(Some(entry), &["epoch", "position"])?;
        let number = |name| number(need(&entry, name)?, name, 0, SAFE);
        Ok((number("epoch")?, number("position")?))
    })
}

/// `{"3": e}`: the epoch by partition.
pub(crate) fn epochs(given: &Map<String, Value>, name: &str) -> Result<BTreeMap<usize, i64>, Refused> {
    by_partition(given, name, |entry| number(entry, "epoch", 0, SAFE))
}

fn by_partition<T>(
    given: &Map<String, Value>,
    name: &str,
    read: impl Fn(&Value) -> Result<T, Refused>,
) -> Result<BTreeMap<usize, T>, Refused> {
    let Some(value) = given.get(name) else { return Ok(BTreeMap::new()) };
    let entries = value.as_object().ok_or_else(|| invalid(format!("{name} must be an object")))?;
    let key = |key: &str| {
        let number = key.parse().ok().filter(|_| key.len() <= 6 && key.bytes().all(|byte| byte.is_ascii_digit()));
        number.ok_or_else(|| invalid(format!("{name}: {key:?} is no partition")))
    };
    entries.iter().map(|(name, entry)| Ok((key(name)?, read(entry)?))).collect()
}
