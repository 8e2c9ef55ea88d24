//! The bounds on what a client may send. Those in [`Limits`] can be set by flags of the server; the constants are their
//! defaults.

/// Largest stream, type or namespace name, in bytes of UTF-8.
pub const NAME_BYTES: usize = 255;
/// Largest message, in bytes: `data` and `metadata` as stored.
pub const MESSAGE_BYTES: usize = 1024 * 1024;
/// Largest request body, in bytes.
pub const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Deepest nesting of `data` or `metadata`; an object without nested values has depth 1.
pub const JSON_DEPTH: usize = 128;
/// Page size of a read without `batchSize`.
pub const BATCH_SIZE_DEFAULT: usize = 1000;
/// Largest page, and the page size for `batchSize: -1`.
pub const BATCH_SIZE_MAX: usize = 10_000;
/// Page size of `ns.streams` without `limit`.
pub const STREAMS_DEFAULT: usize = 100;
/// Largest page of `ns.streams`.
pub const STREAMS_MAX: usize = 1000;
/// Largest page of `ns.categories`, and its size without `limit`.
pub const CATEGORIES_MAX: usize = 10_000;
/// Most messages in one atomic append.
pub const APPEND_MESSAGES: usize = 1000;
/// Most streams, and most checks, in one atomic append.
pub const APPEND_STREAMS: usize = 100;
/// Most categories, and most types, that one read or subscription may name; most of both that the conditions of one append
/// may.
pub const FILTER_NAMES: usize = 100;
/// Longest description of a namespace, in bytes of UTF-8.
pub const DESCRIPTION_BYTES: usize = 1024;
/// Most living tokens of one namespace.
pub const TOKENS: usize = 100;
/// How long a token that was rotated still opens its namespace, if the caller does not say, in milliseconds.
pub const GRACE_DEFAULT_MS: u64 = 300_000;
/// The longest that it may, in milliseconds: 7 days.
pub const GRACE_MAX_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Partitions of a group, if its creator does not say.
pub const PARTITIONS_DEFAULT: u32 = 16;
/// Most partitions of a group.
pub const PARTITIONS: u32 = 1024;
/// How long a member's lease lasts after its last call, if the group's creator does not say, in milliseconds.
pub const SESSION_DEFAULT_MS: i64 = 30_000;
/// The shortest that it may, in milliseconds.
pub const SESSION_MIN_MS: i64 = 1_000;
/// The longest that it may, in milliseconds.
pub const SESSION_MAX_MS: i64 = 600_000;
/// Most parked streams of a group, if its creator does not say.
pub const PARKED_DEFAULT: i64 = 1_000;
/// Most parked streams of a group, whatever its creator says: a server has all of them in memory.
pub const PARKED: i64 = 10_000;
/// Most groups of one namespace.
pub const GROUPS: usize = 1_000;
/// Most members of one group.
pub const GROUP_MEMBERS: usize = 1_000;
/// Most earlier partition counts that a group carries over at once.
pub const CARRIED: usize = 8;
/// Entries of a group's audit that are kept.
pub const AUDIT_ENTRIES: usize = 10_000;
/// Where counting messages for a person ends.
pub const COUNTED: usize = 10_000;
/// Page size of `group.read` without `batchSize`.
pub const GROUP_BATCH_DEFAULT: usize = 100;
/// Page size of `group.parked` and `group.audit` without `limit`.
pub const GROUP_LIST_DEFAULT: usize = 100;
/// Largest page of `group.parked` and `group.audit`.
pub const GROUP_LIST_MAX: usize = 1000;
/// What is kept of the reason for which a stream is parked, in bytes of UTF-8.
pub const REASON_BYTES: usize = 4096;
/// Longest wait of a member's call that is not refused, in milliseconds. A server cuts it to a third of the session.
pub const MEMBER_WAIT_MS: i64 = 600_000;
/// Wait of `group.wait` without `timeoutMs`, in milliseconds.
pub const GROUP_WAIT_DEFAULT_MS: i64 = 10_000;
/// Longest wait of a read, in milliseconds.
pub const WAIT_MS: u64 = 30_000;
/// Highest position, in a stream as in a namespace: the largest integer that a JavaScript number holds exactly.
pub const POSITION_MAX: i64 = (1 << 53) - 1;
/// Records of an import that are committed together.
pub const IMPORT_BATCH: usize = 1000;

/// The limits in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest stream, type or namespace name, in bytes of UTF-8.
    pub name_bytes: usize,
    /// Largest message, in bytes: `data` and `metadata` as stored.
    pub message_bytes: usize,
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Deepest nesting of `data` or `metadata`.
    pub json_depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { name_bytes: NAME_BYTES, message_bytes: MESSAGE_BYTES, body_bytes: BODY_BYTES, json_depth: JSON_DEPTH }
    }
}
