//! The load: connections that ask, wait for the answer and ask again, on one thread of their own.
//!
//! One thread that waits for all its connections together wakes up for many answers at once, and nothing is handed
//! from thread to thread: that is what makes the generator cheaper than what it measures.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::JoinSet;

use crate::measure::{Gauge, Measured, Second};
use crate::pace::Pace;
use crate::ramp::Ramp;
use crate::wire::{Address, Connection, Reply};

/// What one connection asks.
pub(crate) trait Lane: Send + 'static {
    /// The next request.
    fn request(&mut self) -> &[u8];

    /// Looks at the answer; answers how many messages it stands for.
    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64>;

    /// Whether there is nothing more to ask.
    fn is_done(&self) -> bool {
        false
    }
}

/// How long, how much and how fast.
#[derive(Clone, Debug, Default)]
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
    /// How many of the connections ask, by the time since the start; without it all of them.
    pub(crate) ramp: Option<Ramp>,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// What was measured.
    pub(crate) measured: Measured,
    /// In what time.
    pub(crate) elapsed: Duration,
    /// What is no latency, by name: resident memory, open files, …
    pub(crate) readings: BTreeMap<&'static str, f64>,
    /// The `fsync` ceiling's seconds, where it ran beside.
    pub(crate) fsync_seconds: Vec<Second>,
    /// Processor time of a server that was not the run's usual one, in seconds.
    pub(crate) server_s: Option<f64>,
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
    /// One for all lanes: a histogram for each would be hundreds of kilobytes a connection.
    measured: Mutex<Measured>,
}

/// Runs the lanes, each on its own connection, on a thread of its own.
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
    let (taken, messages, measured) = (AtomicU64::new(0), AtomicU64::new(0), Mutex::default());
    let start = Instant::now();
    let pace = plan.rate.map(|rate| Pace::new(start, rate));
    let begin = start + plan.warm_up;
    let run = Arc::new(Run { address, plan, gauge, start, pace, taken, messages, measured });
    let lane = |(number, (lane, connection))| run_lane(number, lane, connection, Arc::clone(&run));
    let mut tasks: JoinSet<Instant> = (0..).zip(connected).map(lane).collect();
    let mut end = begin;
    while let Some(ended) = tasks.join_next().await {
        end = end.max(ended.context("a lane panicked")?);
    }
    let measured = std::mem::take(&mut *run.measured());
    Ok(Loaded { measured, elapsed: end - begin, ..Loaded::default() })
}

async fn run_lane<L: Lane>(number: u64, mut lane: L, connection: Connection, run: Arc<Run>) -> Instant {
    /// Failures in a row after which a lane gives up.
    const PATIENCE: u32 = 20;
    let mut connection = Some(connection);
    let begin = run.start + run.plan.warm_up;
    let (mut ended, mut failures) = (begin, 0);
    while failures < PATIENCE && !lane.is_done() {
        let Some(sent) = run.next(number).await else { break };
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
                    run.measured().answer(ended - sent, since, messages);
                }
            }
            Err(error) => run.measured().error(&error),
        }
    }
    ended
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
    /// When the next request of lane `number` should be sent, once it is time; `None` at the end.
    async fn next(&self, number: u64) -> Option<Instant> {
        while !self.is_active(number) {
            if self.is_over(Instant::now()) {
                return None;
            }
            tokio::time::sleep(RAMP_STEP).await;
        }
        if self.gauge.is_stopped() {
            return None;
        }
        let moment = match &self.pace {
            Some(pace) => pace.next().await,
            None => Instant::now(),
        };
        let is_over = match self.plan.count {
            Some(count) => self.taken.fetch_add(1, Ordering::Relaxed) >= count,
            None => self.is_over(moment),
        };
        (!is_over).then_some(moment)
    }

    fn is_active(&self, number: u64) -> bool {
        self.plan.ramp.as_ref().is_none_or(|ramp| ramp.connections(self.start.elapsed()) > number)
    }

    fn is_over(&self, moment: Instant) -> bool {
        self.gauge.is_stopped()
            || moment >= self.start + self.plan.warm_up + self.plan.duration
                && self.messages.load(Ordering::Relaxed) >= self.plan.least
    }

    fn measured(&self) -> std::sync::MutexGuard<'_, Measured> {
        // A lane that panicked has ended the run anyway.
        self.measured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a connection that is not yet wanted looks again.
const RAMP_STEP: Duration = Duration::from_millis(5);
