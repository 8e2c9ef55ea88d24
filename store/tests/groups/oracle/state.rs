//! The state of the model: the log's messages, groups, and the assignor as a pure function.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use md5::{Digest as _, Md5};
use serde_json::{Value, json};

use super::time;

pub(crate) fn category_of(stream: &str) -> &str {
    stream.split('-').next().unwrap_or(stream)
}

/// The member function.
pub(crate) fn partition_of(stream: &str, size: usize) -> usize {
    thread_local! {
        static KNOWN: RefCell<HashMap<String, u64>> = RefCell::new(HashMap::new());
    }
    let hash = KNOWN.with_borrow_mut(|known| {
        if let Some(hash) = known.get(stream) {
            return *hash;
        }
        let cardinal = stream.split_once('-').map_or("", |(_, id)| id.split('+').next().unwrap_or(""));
        let digest = Md5::digest(if cardinal.is_empty() { stream } else { cardinal });
        let first = i64::from_be_bytes(digest[..8].try_into().expect("8 bytes"));
        known.insert(stream.to_owned(), first.unsigned_abs());
        first.unsigned_abs()
    });
    usize::try_from(hash % size as u64).expect("a partition")
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) stream: String,
    pub(crate) kind: String,
    pub(crate) position: i64,
    /// The global position: 1, 2, 3, … without gaps.
    pub(crate) at: i64,
    pub(crate) data: Value,
    pub(crate) metadata: Value,
    pub(crate) time: i64,
}

impl Message {
    pub(crate) fn row(&self, behind: &[i64]) -> Value {
        let mut row = vec![
            json!(self.id),
            json!(self.stream),
            json!(self.kind),
            json!(self.position),
            json!(self.at),
            self.data.clone(),
            self.metadata.clone(),
            time(self.time),
        ];
        row.extend(behind.iter().map(|number| json!(number)));
        Value::Array(row)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Partition {
    pub(crate) number: usize,
    pub(crate) epoch: i64,
    pub(crate) checkpoint: i64,
    /// When the checkpoint moved last.
    pub(crate) moved: i64,
    pub(crate) owner: Option<String>,
    /// Set while the partition is asked back.
    pub(crate) deadline: Option<i64>,
}

impl Partition {
    pub(crate) fn new(number: usize, checkpoint: i64, moved: i64) -> Self {
        Self { number, epoch: 0, checkpoint, moved, owner: None, deadline: None }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) name: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) lease_end: i64,
    pub(crate) joined: i64,
    pub(crate) last_call: i64,
}

/// A parked stream: its messages up to `handled` are handled, all above are withheld from pages.
#[derive(Clone, Debug)]
pub(crate) struct Parked {
    pub(crate) stream: String,
    pub(crate) handled: i64,
    /// Of the message that failed; 0 once it is handled or skipped.
    pub(crate) attempts: i64,
    pub(crate) reason: String,
    pub(crate) since: i64,
    /// None: only when an operator says so.
    pub(crate) due: Option<i64>,
    /// New with every `group.handled` that is taken.
    pub(crate) rev: i64,
    /// The retry was handed out and not answered yet.
    pub(crate) out: bool,
}

/// Checkpoints of an earlier partition count. `void`: (partition count, partition) pairs that a reset took out.
#[derive(Clone, Debug)]
pub(crate) struct Carried {
    pub(crate) size: usize,
    pub(crate) checkpoints: Vec<i64>,
    pub(crate) void: BTreeSet<(usize, usize)>,
}

impl Carried {
    pub(crate) fn of(&self, stream: &str) -> i64 {
        if self.void.iter().any(|(size, number)| partition_of(stream, *size) == *number) {
            return 0;
        }
        self.checkpoints[partition_of(stream, self.size)]
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) categories: BTreeSet<String>,
    pub(crate) types: BTreeSet<String>,
    pub(crate) description: String,
    pub(crate) session: i64,
    pub(crate) max_parked: i64,
    pub(crate) created: i64,
    pub(crate) parts: Vec<Partition>,
    /// In order of joining.
    pub(crate) members: Vec<Member>,
    pub(crate) parked: BTreeMap<String, Parked>,
    pub(crate) carried: Vec<Carried>,
    /// Member or instance -> (reason, told until).
    pub(crate) gone: HashMap<String, (&'static str, i64)>,
    pub(crate) audit: Vec<Value>,
    pub(crate) paused: bool,
    /// The new partition count.
    pub(crate) resizing: Option<usize>,
    /// Counts every change of an assignment.
    pub(crate) generation: i64,
    pub(crate) last_rev: i64,
    /// Counts resizes and resets: partitions of another count, or that begin elsewhere, are other partitions.
    pub(crate) era: u64,
}

impl Group {
    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(crate) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.iter_mut().find(|member| member.id == id)
    }
}

/// The assignor. Returns (partition without owner -> member, partitions to ask back). Shares differ by at most one at the
/// end; a member keeps what it has up to its share, and the larger shares go to those that hold most.
pub(crate) fn assign(
    owners: &[Option<String>],
    revoking: &BTreeSet<usize>,
    members: &[String],
) -> (BTreeMap<usize, String>, Vec<usize>) {
    if members.is_empty() {
        return (BTreeMap::new(), Vec::new());
    }
    let kept: Vec<Vec<usize>> = members
        .iter()
        .map(|m| (0..owners.len()).filter(|p| owners[*p].as_ref() == Some(m) && !revoking.contains(p)).collect())
        .collect();
    let (low, larger) = (owners.len() / members.len(), owners.len() % members.len());
    let mut by_holding: Vec<usize> = (0..members.len()).collect();
    by_holding.sort_by_key(|m| (std::cmp::Reverse(kept[*m].len()), *m));
    let mut share = vec![0; members.len()];
    for (i, m) in by_holding.iter().enumerate() {
        share[*m] = low + usize::from(i < larger);
    }
    let mut ask: Vec<usize> = (0..members.len()).flat_map(|m| kept[m].iter().skip(share[m]).copied()).collect();
    ask.sort_unstable();
    let mut have: Vec<usize> = (0..members.len()).map(|m| kept[m].len().min(share[m])).collect();
    let mut give = BTreeMap::new();
    for (p, owner) in owners.iter().enumerate() {
        if owner.is_none() {
            let lacks = |m: &usize| (share[*m] as i64 - have[*m] as i64, std::cmp::Reverse(*m));
            let taker = (0..members.len()).max_by_key(lacks).expect("there are members");
            give.insert(p, members[taker].clone());
            have[taker] += 1;
        }
    }
    (give, ask)
}
