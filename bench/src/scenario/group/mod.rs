//! Consumer groups that the server keeps: what members cost, and how soon what is written is handled.

pub(crate) mod checkpoint;
pub(crate) mod live;
pub(crate) mod many;
pub(crate) mod read;

use std::collections::BTreeMap;

use eventodb_protocol::group::Epoch;
use eventodb_protocol::group::reply::{Assigned, GroupRead, Heartbeat, Membership, Revoking};
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rpc;
use crate::wire::{Address, Connection};

/// Partitions of the groups here.
const PARTITIONS: u32 = 16;

/// A row of a page, of which only the global position and the partition are looked at.
type Row = (IgnoredAny, IgnoredAny, IgnoredAny, IgnoredAny, i64, IgnoredAny, IgnoredAny, IgnoredAny, u32);

/// What a member knows of its partitions.
#[derive(Debug)]
struct Known {
    group: String,
    member: String,
    assigned: BTreeMap<u32, Epoch>,
    revoking: BTreeMap<u32, Epoch>,
    /// Up to where partitions were read since the last call.
    read: BTreeMap<u32, i64>,
}

/// A member with a connection of its own.
#[derive(Debug)]
struct Member {
    address: Address,
    connection: Connection,
    known: Known,
}

/// Makes a group of a name of its own; returns the name.
async fn create(address: &Address, options: &Value) -> anyhow::Result<String> {
    let group = format!("bench-{}", Uuid::new_v4().simple());
    rpc::call(address, &json!(["group.create", group, options])).await?;
    Ok(group)
}

async fn delete(address: &Address, group: &str) -> anyhow::Result<()> {
    rpc::call(address, &json!(["group.delete", group])).await.map(drop)
}

impl Known {
    fn of(group: &str, joined: &Membership) -> Self {
        let mut known = Self {
            group: group.to_owned(),
            member: joined.member.clone(),
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            read: BTreeMap::new(),
        };
        known.take(&joined.assigned, &joined.revoking);
        known
    }

    fn take(&mut self, assigned: &[Assigned], revoking: &[Revoking]) {
        self.assigned = assigned.iter().map(|each| (each.partition, each.epoch)).collect();
        self.revoking = revoking.iter().map(|each| (each.partition, each.epoch)).collect();
    }

    /// The body of a call that stores what was read, and gives back what is asked back.
    fn body(&mut self, method: &str, more: Value) -> String {
        let assigned = &self.assigned;
        let checkpoints: BTreeMap<String, Value> = std::mem::take(&mut self.read)
            .into_iter()
            .filter_map(|(number, position)| {
                let epoch = assigned.get(&number)?;
                Some((number.to_string(), json!({ "epoch": epoch, "position": position })))
            })
            .collect();
        let mut options = more;
        options["checkpoints"] = json!(checkpoints);
        options["released"] = json!(self.revoking);
        json!([method, self.group, self.member, options]).to_string()
    }

    /// Takes a page; returns its rows.
    fn page<M>(&mut self, page: GroupRead<M>) -> Vec<M> {
        self.take(&page.assigned, &page.revoking);
        self.read = page.up_to;
        page.messages
    }
}

impl Member {
    async fn join(address: &Address, group: &str, connection: Connection) -> anyhow::Result<Self> {
        let mut connection = connection;
        let body = json!(["group.join", group, { "instance": Uuid::now_v7() }]).to_string();
        let joined: Membership = exchange(&mut connection, address, &body).await?;
        Ok(Self { address: address.clone(), connection, known: Known::of(group, &joined) })
    }

    async fn heartbeat(&mut self, wait_ms: u64) -> anyhow::Result<()> {
        let body = self.known.body("group.heartbeat", json!({ "waitMs": wait_ms }));
        let beat: Heartbeat = exchange(&mut self.connection, &self.address, &body).await?;
        self.known.take(&beat.membership.assigned, &beat.membership.revoking);
        Ok(())
    }

    async fn read(&mut self, wait_ms: u64) -> anyhow::Result<Vec<Row>> {
        let body = self.known.body("group.read", json!({ "waitMs": wait_ms }));
        let page: GroupRead<Row> = exchange(&mut self.connection, &self.address, &body).await?;
        Ok(self.known.page(page))
    }
}

async fn exchange<T: DeserializeOwned>(
    connection: &mut Connection,
    address: &Address,
    body: &str,
) -> anyhow::Result<T> {
    let reply = connection.exchange(&address.call(body).bytes).await?;
    Ok(serde_json::from_slice(reply.success()?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_stores_what_was_read_once() {
        let joined: Membership = serde_json::from_value(json!({
            "member": "m", "generation": 1, "sessionMs": 30_000, "heartbeatMs": 10_000, "partitionCount": 2,
            "assigned": [{ "partition": 0, "epoch": 5, "checkpoint": 0 }],
            "revoking": [{ "partition": 1, "epoch": 6, "deadlineMs": 100 }],
        }))
        .unwrap();
        let mut known = Known::of("g", &joined);
        known.read = BTreeMap::from([(0, 7), (1, 8)]);
        let call: Value = serde_json::from_str(&known.body("group.read", json!({ "waitMs": 3 }))).unwrap();
        let options = json!({
            "waitMs": 3, "checkpoints": { "0": { "epoch": 5, "position": 7 } }, "released": { "1": 6 }
        });
        assert_eq!(call, json!(["group.read", "g", "m", options]));
        let call: Value = serde_json::from_str(&known.body("group.heartbeat", json!({}))).unwrap();
        assert_eq!(call[3]["checkpoints"], json!({}));
    }
}
