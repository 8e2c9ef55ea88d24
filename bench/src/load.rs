//! The load: connections that ask, wait for the answer and ask again, on one thread of their own.
//!
//! One thread that waits for all its connections together wakes up for many answers at once, and nothing is handed
//! from thread to thread: that is what makes the generator cheaper than what it measures.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::measure::{Gauge, Measured};
use crate::pace::Pace;
use crate::wire::{Address, Connection, Reply};

/// What one connection asks.
pub(crate) trait Lane: Send + 'static {
    /// The next request.
    fn request(&mut self) -> &[u8];

    /// Looks at the answer; answers how many messages it stands for.
    ///
    /// # Errors
    /// It is not what was expected.
    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64>;

    /// Whether there is nothing more to ask.
    fn is_done(&self) -> bool {
        false
    }
}

/// How long, how much and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Time that does not count.
    pub(crate) warm_up: Duration,
    /// Time that counts, at least.
    pub(crate) duration: Duration,
    /// Requests in place of a duration.
    pub(crate) count: Option<u64>,
    /// Messages that must be through before the end, whatever the time.
    pub(crate) least: u64,
    /// Requests a second, over all connections.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What was measured.
    pub(crate) measured: Measured,
    /// In what time.
    pub(crate) elapsed: Duration,
}

/// What the lanes of one run share.
struct Run {
    address: Address,
    plan: Plan,
    gauge: Arc<Gauge>,
    start: Instant,
    /// When requests are due, where the load has a rate.
    pace: Option<Pace>,
    /// Requests taken so far, for a count.
    taken: AtomicU64,
    /// Messages through so far.
    messages: AtomicU64,
}

/// Runs the lanes, each on its own connection, on a thread of its own.
///
/// # Errors
/// A connection could not be opened.
pub(crate) async fn run<L: Lane>(
    address: &Address,
    plan: Plan,
    lanes: Vec<L>,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let address = address.clone();
    let generate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(drive(address, plan, lanes, gauge))
    };
    tokio::task::spawn_blocking(generate).await.context("the load generator panicked")?
}

async fn drive<L: Lane>(address: Address, plan: Plan, lanes: Vec<L>, gauge: Arc<Gauge>) -> anyhow::Result<Loaded> {
    let mut connected = Vec::new();
    for lane in lanes {
        connected.push((lane, Connection::open(&address).await?));
    }
    let (taken, messages) = (AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    let pace = plan.rate.map(|rate| Pace::new(start, rate));
    let run = Arc::new(Run { address, plan, gauge, start, pace, taken, messages });
    let mut tasks: JoinSet<(Measured, Instant)> =
        connected.into_iter().map(|(lane, connection)| run_lane(lane, connection, Arc::clone(&run))).collect();
    let begin = run.start + plan.warm_up;
    let (mut measured, mut end) = (Measured::default(), begin);
    while let Some(lane) = tasks.join_next().await {
        let (lane, ended) = lane.context("a lane panicked")?;
        measured.add(lane);
        end = end.max(ended);
    }
    Ok(Loaded { measured, elapsed: end - begin })
}

async fn run_lane<L: Lane>(mut lane: L, connection: Connection, run: Arc<Run>) -> (Measured, Instant) {
    /// Failures in a row after which a lane gives up.
    const PATIENCE: u32 = 20;
    let mut connection = Some(connection);
    let mut measured = Measured::default();
    let begin = run.start + run.plan.warm_up;
    let (mut ended, mut failures) = (begin, 0);
    while failures < PATIENCE && !lane.is_done() {
        let Some(sent) = run.next().await else { break };
        let result = match ask(&mut lane, &mut connection, &run.address).await {
            Ok(result) => result,
            Err(error) => {
                connection = None;
                Err(error)
            }
        };
        ended = Instant::now();
        failures = if result.is_ok() { 0 } else { failures + 1 };
        match result {
            Ok(messages) => {
                run.messages.fetch_add(messages, Ordering::Relaxed);
                run.gauge.requests.fetch_add(1, Ordering::Relaxed);
                if let Some(since) = ended.checked_duration_since(begin) {
                    measured.answer(ended - sent, since, messages);
                }
            }
            Err(error) => measured.error(&error),
        }
    }
    (measured, ended)
}

/// One request; the outer failure is that of the connection, which is of no use then.
async fn ask<L: Lane>(
    lane: &mut L,
    connection: &mut Option<Connection>,
    address: &Address,
) -> anyhow::Result<anyhow::Result<u64>> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(address).await?),
    };
    let reply = connection.exchange(lane.request()).await?;
    Ok(lane.answer(reply))
}

impl Run {
    /// When the next request should be sent, once it is time; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        if self.gauge.is_stopped() {
            return None;
        }
        let moment = match &self.pace {
            Some(pace) => pace.next().await,
            None => Instant::now(),
        };
        let is_over = match self.plan.count {
            Some(count) => self.taken.fetch_add(1, Ordering::Relaxed) >= count,
            None => {
                moment >= self.start + self.plan.warm_up + self.plan.duration
                    && self.messages.load(Ordering::Relaxed) >= self.plan.least
            }
        };
        if is_over {
            return None;
        }
        Some(moment)
    }
}
