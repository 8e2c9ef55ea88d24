//! Replies of the performance API: how many requests there were, how long they took, and which were slow.
//!
//! Times are in milliseconds, with fractions. Numbers of requests count since [`Performance::since`].

use serde::{Deserialize, Serialize};

use crate::Timestamp;

/// Reply of `GET /api/v1/performance`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Performance {
    /// The version of the server.
    pub version: String,
    /// The backend, as `sys.health` names it.
    pub backend: String,
    /// From when on requests are counted: the start of the server, or the last reset.
    pub since: Timestamp,
    /// A request that takes longer than this, without the time that it asked to wait, is slow.
    pub slow_threshold_ms: f64,
    /// All requests.
    pub requests: Periods,
    /// The process.
    pub system: System,
    /// Points for a chart, if they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<Series>,
}

/// Statistics of all requests over several periods, each of which ends now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Periods {
    /// Since [`Performance::since`].
    pub process: Statistics,
    /// Over the last minute, of which up to five seconds are missing.
    pub last_minute: Statistics,
    /// Over the last five minutes, of which up to five seconds are missing.
    pub last5_minutes: Statistics,
    /// Over the last 60 minutes, of which up to one is missing.
    pub last60_minutes: Statistics,
}

/// How many requests there were in a period, and how long they took: from the head of the request to the head of its
/// reply, without the time that a request asked to wait.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Statistics {
    /// The length of the period.
    pub seconds: f64,
    /// Requests that were answered.
    pub total: u64,
    /// The same in a second.
    pub per_second: f64,
    /// Those among them whose status is 400 to 499.
    pub refused: u64,
    /// Those among them whose status is 500 or more.
    pub failed: u64,
    /// Slow ones.
    pub slow: u64,
    /// Their share in percent.
    pub slow_percent: f64,
    /// The average; 0 if there were none, as for the following.
    pub average_ms: f64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 95 % of them took no longer.
    pub p95_ms: f64,
    /// 99 % of them took no longer.
    pub p99_ms: f64,
    /// 99.9 % of them took no longer.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// The process. What the system does not tell is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Since the start of the server.
    pub uptime_seconds: f64,
    /// CPU time of the process since its start, of all its threads.
    pub cpu_seconds: f64,
    /// CPUs that the process may use.
    pub cpus: u64,
    /// Memory of the process that is resident.
    pub resident_bytes: u64,
    /// Virtual memory of the process.
    pub virtual_bytes: u64,
    /// The memory budget for what waits for clients.
    pub memory_budget_bytes: u64,
    /// What is taken of it.
    pub memory_taken_bytes: u64,
    /// Threads of the process.
    pub threads: u64,
    /// Open file descriptors of the process.
    pub open_fds: u64,
    /// Open connections.
    pub connections: u64,
}

/// Points of a chart, the oldest first. Times without a request have no point.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Series {
    /// Seconds that each point stands for.
    pub step_seconds: u64,
    /// What the numbers of a point are: [`COLUMNS`].
    pub columns: Vec<String>,
    /// The points. The last one is of the second or minute that is not over.
    pub points: Vec<Point>,
}

/// The names of a point's numbers.
pub const COLUMNS: [&str; 9] = ["time", "total", "refused", "failed", "slow", "averageMs", "p50Ms", "p99Ms", "maxMs"];

/// When it begins, in seconds since 1970; then [`Statistics`] of the same names as [`COLUMNS`].
pub type Point = (i64, u64, u64, u64, u64, f64, f64, f64, f64);

/// Reply of `GET /api/v1/performance/queries`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queries {
    /// As [`Performance::since`].
    pub since: Timestamp,
    /// As [`Performance::slow_threshold_ms`].
    pub slow_threshold_ms: f64,
    /// All requests by what they asked for and in which namespace; those first that took the most time together.
    pub patterns: Vec<Pattern>,
    /// The last slow requests, the latest first.
    pub recent_slow: Vec<SlowRequest>,
    /// The slowest requests, the slowest first.
    pub top_slow: Vec<SlowRequest>,
}

/// All requests for one thing in one namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pattern {
    /// What the requests do to the store.
    pub operation: Operation,
    /// The method or path, as `/metrics` names it.
    pub method: String,
    /// The namespace; `other` for those that have no pattern of their own, none for requests that have no namespace.
    pub namespace: Option<String>,
    /// How many there were, and how long they took.
    #[serde(flatten)]
    pub statistics: Statistics,
}

/// What a request does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// It appends messages.
    Append,
    /// It reads messages, or facts about streams.
    Read,
    /// It waits for messages.
    Subscribe,
    /// It calls a consumer group.
    Group,
    /// It looks at a namespace or a token, or changes it.
    Administer,
    /// It does not touch the store, or was refused before it could.
    None,
}

/// A request that was slow. Nothing in it is of a message, of a stream's name or of a token.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlowRequest {
    /// When its reply began.
    pub time: Timestamp,
    /// The method or path.
    pub method: String,
    /// The namespace, if the request got so far.
    pub namespace: Option<String>,
    /// How long it took.
    pub duration_ms: f64,
    /// How much of that it had asked to wait, at most.
    pub wait_ms: f64,
    /// The status of its reply.
    pub status: u16,
    /// The code of its error; none if it succeeded.
    pub code: Option<String>,
    /// Its id, which its reply and the lines of the log about it have.
    pub request_id: String,
}

/// Reply of `POST /api/v1/performance/reset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PerformanceReset {
    /// From now on.
    pub since: Timestamp,
}

/// Reply of `GET /api/v1/performance/cache`. It counts since the start of the server, as `/metrics` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// Bytes of messages that are kept in memory.
    pub tail_bytes: u64,
    /// The most of them.
    pub tail_limit_bytes: u64,
    /// Slices of messages that were read from memory, or from the database.
    pub reads: Hits,
    /// Versions of streams that were remembered, or looked up.
    pub versions: Hits,
}

/// How often a cache had what was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hits {
    /// It had it.
    pub hits: u64,
    /// It did not.
    pub misses: u64,
    /// The share of the hits in percent; 0 if nothing was asked for.
    pub hit_percent: f64,
}

/// Reply of `GET /api/v1/performance/database`. It counts since the start of the server, as `/metrics` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// The backend, as `sys.health` names it.
    pub backend: String,
    /// Whether an acknowledged write is on the disk.
    pub fsync: bool,
    /// Appends that wait for a batch.
    pub queued: u64,
    /// From the arrival of an append to its batch.
    pub queue_wait: Timing,
    /// From the submission of a batch to its commit.
    pub commit: Timing,
    /// Messages that were written.
    pub messages: u64,
    /// Messages that no index on the disk has yet.
    pub not_indexed: u64,
    /// The pools of connections to the database, or of readers.
    pub pools: Vec<DatabasePool>,
}

/// How often something was timed, and how long it took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Timing {
    /// How often.
    pub count: u64,
    /// The average; 0 if there was none.
    pub average_ms: f64,
    /// The longest of the last minute.
    pub recent_max_ms: f64,
}

/// A pool of connections to the database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DatabasePool {
    /// What its connections are for.
    pub name: String,
    /// Connections that may be open.
    pub limit: u64,
    /// Connections that are open.
    pub open: u64,
    /// Open connections that nobody uses.
    pub idle: u64,
    /// Callers that wait for one.
    pub waiting: u64,
    /// The share of the limit that is in use, in percent.
    pub utilization_percent: f64,
    /// How often somebody got one.
    pub acquired: u64,
    /// How long that took on average.
    pub average_acquire_ms: f64,
}

/// Reply of `GET /api/v1/performance/groups`. It counts since the start of the server, as `/metrics` does.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    /// The first 100 groups by namespace and name, as they stood at most ten seconds ago; those first that are farthest behind.
    pub groups: Vec<GroupFigures>,
    /// Calls of members that were refused because their right has ended.
    pub fenced: u64,
    /// Members that were ended because they did not call in time.
    pub expired: u64,
    /// Times that partitions got another owner.
    pub rebalances: u64,
    /// Subscriptions.
    pub subscriptions: Subscriptions,
}

/// How a consumer group stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupFigures {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub group: String,
    /// Messages that are neither handled nor in a parked stream, up to a bound.
    pub lag_messages: u64,
    /// The age of the oldest of them.
    pub lag_seconds: f64,
    /// Parked streams.
    pub parked_streams: u64,
    /// How long the one that was parked first has been.
    pub parked_seconds: f64,
    /// Partitions that no member owns.
    pub unowned_partitions: u64,
}

/// Subscriptions of all namespaces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscriptions {
    /// Open ones of one stream.
    pub stream: u64,
    /// Open ones of categories.
    pub category: u64,
    /// Open ones of all messages.
    pub all: u64,
    /// Pokes that were sent.
    pub pokes: u64,
    /// From when a message could be seen to when its poke was sent, of subscriptions that were at the head.
    pub poke_delay: Timing,
    /// Messages between the head and the slowest subscription that has something to read.
    pub slowest_lag: u64,
}
