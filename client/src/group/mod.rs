//! Consumer groups that the server keeps: every call on them.
//!
//! A worker makes the calls of a member by itself. They are here for consumers of another shape. A call may be repeated
//! after a lost reply and then changes nothing more, except for [`Group::reset`].

mod commit;
mod member;
mod options;
mod page;

use std::time::Duration;

use eventodb_protocol::group::reply::{
    Audited, Flowing, GroupDeleted, GroupListed, GroupStatus, GroupSummary, Heartbeat, Membership, ParkAttempts,
    ParkedListed, Reset, Retried, Skipped, Waited,
};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

pub use commit::Commit;
pub use eventodb_protocol::group::{Epoch, Fence, Fenced, partition_of, reply};
pub use member::{Join, MemberCall, Park, Presented, ReadGroup, Settle};
pub use options::{Adopt, CreateGroup, ResetGroup, ResetTo, Skip, Start, UpdateGroup};
pub use page::{GroupMessage, GroupPage, RetryMessage};

use crate::client::{Client, Repeat};
use crate::error::Result;

/// A group by its name, whether it exists or not.
///
/// Each call fails with `GroupNotFound` if there is no such group, and with whatever else a call can fail with.
#[derive(Clone, Debug)]
pub struct Group {
    client: Client,
    name: String,
}

/// A page of a list.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ListPage<C> {
    /// Most entries, 1 to 1,000. Default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Only entries behind this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<C>,
}

/// What to wait for.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Wait<'a> {
    global_position: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<&'a str>,
    timeout_ms: u64,
}

impl Client {
    /// The group of this name.
    pub fn group(&self, name: impl Into<String>) -> Group {
        Group { client: self.clone(), name: name.into() }
    }

    /// The groups of the namespace, by name.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn groups(&self) -> Result<Vec<GroupListed>> {
        self.call(&("group.list",), Repeat::Always).await?.parse()
    }

    /// Waits until a group has handled everything up to a global position, such as that of one's own write: then a read
    /// model that the group keeps shows it. Returns whether that came to pass within `limit`. Messages of parked streams
    /// do not count; [`Group::wait`] tells how many there are.
    ///
    /// # Errors
    /// `GroupNotFound`, and whatever else a call can fail with.
    pub async fn wait_for(&self, group: &str, global_position: i64, limit: Duration) -> Result<bool> {
        Ok(self.group(group).wait(global_position, None, limit).await?.reached)
    }
}

impl Group {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Creates it. If it exists and reads the same, it stays as it is.
    ///
    /// # Errors
    /// `Refused` with the code `GROUP_EXISTS` if it reads something else; so for all calls: see [`Group`].
    pub async fn create(&self, options: &CreateGroup) -> Result<GroupSummary> {
        self.call("group.create", options).await
    }

    /// Changes what may be changed.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn update(&self, options: &UpdateGroup) -> Result<GroupSummary> {
        self.call("group.update", options).await
    }

    /// Deletes it. The messages stay. Not retried if its outcome is unknown.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn delete(&self) -> Result<GroupDeleted> {
        self.client.call(&("group.delete", &self.name), Repeat::IfNotDone).await?.parse()
    }

    /// Where it stands, and why it does not move.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn status(&self) -> Result<GroupStatus> {
        self.call("group.status", ()).await
    }

    /// From now on it hands out nothing.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn pause(&self) -> Result<GroupSummary> {
        self.call("group.pause", ()).await
    }

    /// It hands out messages again.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn resume(&self) -> Result<GroupSummary> {
        self.call("group.resume", ()).await
    }

    /// Gives it another number of partitions.
    ///
    /// # Errors
    /// `Refused` with the code `GROUP_BUSY` if it carries over as many earlier partition counts as it can; see [`Group`].
    pub async fn resize(&self, partitions: u32) -> Result<GroupSummary> {
        self.call("group.resize", serde_json::json!({ "partitions": partitions })).await
    }

    /// Lets partitions begin anew. Not retried if its outcome is unknown, because a second reset would act again.
    ///
    /// # Errors
    /// `Refused` with the code `GROUP_BUSY` while it is resized; see [`Group`].
    pub async fn reset(&self, options: &ResetGroup) -> Result<Reset> {
        self.client.call(&("group.reset", &self.name, options), Repeat::IfNotDone).await?.parse()
    }

    /// Its parked streams, by name.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn parked(&self, page: &ListPage<String>) -> Result<Vec<ParkedListed>> {
        self.call("group.parked", page).await
    }

    /// A parked stream is due at once, or all are if none is named.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn retry(&self, stream: Option<&str>) -> Result<Retried> {
        let options = match stream {
            Some(stream) => serde_json::json!({ "stream": stream }),
            None => serde_json::json!({ "all": true }),
        };
        self.call("group.retry", options).await
    }

    /// Messages of a parked stream count as handled.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn skip(&self, options: &Skip) -> Result<Skipped> {
        self.call("group.skip", options).await
    }

    /// What operators did, newest first.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn audit(&self, page: &ListPage<i64>) -> Result<Vec<Audited>> {
        self.call("group.audit", page).await
    }

    /// Waits until all messages up to a global position, or those of one stream, are handled or parked: at most for
    /// `limit`. A limit above 30 s is waited for in several calls.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn wait(&self, global_position: i64, stream: Option<&str>, limit: Duration) -> Result<Waited> {
        const LONGEST: Duration = Duration::from_millis(eventodb_protocol::limits::WAIT_MS);
        /// A clock cannot tell every time that a duration can.
        const YEAR: Duration = Duration::from_hours(365 * 24);
        let until = tokio::time::Instant::now() + limit.min(YEAR);
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now()).min(LONGEST);
            let options = Wait { global_position, stream, timeout_ms: millis(left) };
            let waited: Waited = self.call_waiting(&("group.wait", &self.name, options), left).await?;
            if waited.reached || tokio::time::Instant::now() >= until {
                return Ok(waited);
            }
        }
    }

    /// Becomes a member.
    ///
    /// # Errors
    /// `Fenced` if this instance was a member before and is none any more; see [`Group`].
    pub async fn join(&self, join: &Join) -> Result<Membership> {
        self.call("group.join", join).await
    }

    /// Renews the lease, stores checkpoints, gives partitions back, and waits for a change of the membership.
    ///
    /// # Errors
    /// `Fenced`; see [`Group`].
    pub async fn heartbeat(&self, member: &str, call: &MemberCall) -> Result<Heartbeat> {
        self.call_waiting(&("group.heartbeat", &self.name, member, call), call.wait()).await
    }

    /// Does what a heartbeat does, and reads messages.
    ///
    /// # Errors
    /// `Fenced`; see [`Group`].
    pub async fn read(&self, member: &str, read: &ReadGroup) -> Result<GroupPage> {
        let call = ("group.read", &self.name, member, read);
        GroupPage::parse(self.client.call_for_messages(&call, read.heartbeat.wait()).await?.text)
    }

    /// Parks the stream of a message that failed. Returns how often the message was tried.
    ///
    /// # Errors
    /// `Fenced`; `Refused` with the code `PARK_FULL`, and then the member must not go past the message; see [`Group`].
    pub async fn park(&self, member: &str, park: &Park) -> Result<ParkAttempts> {
        self.call_as(member, "group.park", park).await
    }

    /// Messages of a parked stream were handled. Returns whether the stream is parked no more.
    ///
    /// # Errors
    /// `Fenced`; see [`Group`].
    pub async fn handled(&self, member: &str, settle: &Settle) -> Result<Flowing> {
        self.call_as(member, "group.handled", settle).await
    }

    /// Gives back everything at once. Checkpoints are stored before.
    ///
    /// # Errors
    /// See [`Group`].
    pub async fn leave(&self, member: &str, call: &MemberCall) -> Result<()> {
        #[derive(Serialize)]
        struct Leave<'a> {
            checkpoints: &'a std::collections::BTreeMap<u32, Presented>,
        }
        let leave = Leave { checkpoints: &call.checkpoints };
        self.call_as::<IgnoredAny>(member, "group.leave", leave).await.map(drop)
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, options: impl Serialize + Sync) -> Result<T> {
        self.client.call(&(method, &self.name, options), Repeat::Always).await?.parse()
    }

    async fn call_as<T: DeserializeOwned>(
        &self,
        member: &str,
        method: &str,
        options: impl Serialize + Sync,
    ) -> Result<T> {
        self.client.call(&(method, &self.name, member, options), Repeat::Always).await?.parse()
    }

    async fn call_waiting<T: DeserializeOwned>(&self, call: &(impl Serialize + Sync), wait: Duration) -> Result<T> {
        self.client.call_waiting(call, Repeat::Always, wait).await?.parse()
    }
}

/// Whole milliseconds, not fewer than the duration has.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}
