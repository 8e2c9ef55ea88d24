//! Every bound of the store in one place, with its default.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::time::Duration;

/// Bounds and pauses of the store. Bytes are bytes of message text.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Appends that may wait for the sequencer of one log; more wait for room.
    pub queue_appends: usize,
    /// Bytes of appends that may wait for the sequencer of one log.
    pub queue_bytes: usize,
    /// The age of the oldest append that waits for the sequencer of one log, above which the log is under pressure.
    pub queue_target: Duration,
    /// Once the age has stayed above the target for this time, new appends are refused until it is below again. An
    /// append waits as long for room in a full queue.
    pub queue_interval: Duration,
    /// At most this number of messages are committed together, unless one append alone has more.
    pub batch_messages: usize,
    /// Bytes that are committed together, unless one append alone has more.
    pub batch_bytes: usize,
    /// Messages in the tail of one log.
    pub tail_messages: usize,
    /// Bytes in the tails of all logs together.
    pub tail_bytes: usize,
    /// Streams whose version one log remembers.
    pub version_cache: usize,
    /// At most this number of rows are fetched by one query of a read.
    pub slice_rows: usize,
    /// Bytes after which one query of a read stops.
    pub slice_bytes: usize,
    /// Bytes of a page that are gathered before the reply begins.
    pub page_bytes: usize,
    /// How often a shared database is asked what other servers did, in case a hint was lost.
    pub poll_interval: Duration,
    /// Bytes of pokes that a subscription hands out at once.
    pub poke_bytes: usize,
    /// A subscription at the head hands out pokes at most this often: pokes that come in between go out together.
    pub poke_gap: Duration,
    /// The store tests itself by an append as long as this is true, and not at all while it is false. `None`: it tests
    /// itself by a small write to the registry alone.
    pub self_test: Option<Arc<AtomicBool>>,
    /// The clock of groups in place of the database's, in milliseconds since 1970; for tests. Epochs then have no random
    /// bits, and no timer runs.
    pub group_clock: Option<Arc<AtomicI64>>,
    /// Makes logs pause at named points, drawn from this seed; for tests.
    pub pause_seed: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            queue_appends: 10_000,
            queue_bytes: 64 * 1024 * 1024,
            queue_target: Duration::from_millis(100),
            queue_interval: Duration::from_secs(1),
            batch_messages: 1_000,
            batch_bytes: 4 * 1024 * 1024,
            tail_messages: 16_384,
            tail_bytes: 64 * 1024 * 1024,
            version_cache: 100_000,
            slice_rows: 256,
            slice_bytes: 1024 * 1024,
            page_bytes: 64 * 1024,
            poll_interval: Duration::from_millis(500),
            poke_bytes: 64 * 1024,
            poke_gap: Duration::from_millis(2),
            self_test: None,
            group_clock: None,
            pause_seed: None,
        }
    }
}
