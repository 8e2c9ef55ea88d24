//! The load: connections that send a request, wait for its answer and send the next, on one thread of their own.
//!
//! One thread that waits for all connections together wakes up for many answers at once, and hands nothing from thread
//! to thread. That keeps the generator cheaper than the server it measures.

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

/// The requests of one connection.
pub(crate) trait Lane: Send + 'static {
    /// Receives when the next request should be sent.
    fn due(&mut self, _moment: Instant) {}

    /// The next request.
    fn request(&mut self) -> &[u8];

    /// Checks the answer and returns the number of messages that it stands for.
    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64>;

    /// Whether the lane has nothing more to send.
    fn is_done(&self) -> bool {
        false
    }
}

/// How long, how much and how fast a load is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    /// Time that does not count.
    pub(crate) warm_up: Duration,
    /// Time that counts, at least.
    pub(crate) duration: Duration,
    /// Requests in place of a duration.
    pub(crate) count: Option<u64>,
    /// Messages that the load has at least, even if they take longer than the duration.
    pub(crate) least: u64,
    /// Requests a second, over all connections.
    pub(crate) rate: Option<f64>,
    /// How many of the connections send, by the time since the start; without it all of them.
    pub(crate) ramp: Option<Ramp>,
}

/// The result of a load.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub(crate) measured: Measured,
    pub(crate) elapsed: Duration,
    /// Figures that are no latencies, by name: resident memory, open files, …
    pub(crate) readings: BTreeMap<&'static str, f64>,
    /// The seconds of the `fsync` ceiling, if it ran beside the load.
    pub(crate) fsync_seconds: Vec<Second>,
    /// Processor time of a server that is not the run's usual one, in seconds.
    pub(crate) server_s: Option<f64>,
}

impl Loaded {
    pub(crate) fn ms_at(&self, quantile: f64) -> f64 {
        self.measured.latencies.value_at_quantile(quantile) as f64 / 1e6
    }

    /// `count` as a number a second.
    pub(crate) fn pace(&self, count: u64) -> f64 {
        count as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }
}

/// Runs work on a thread and a runtime of its own, so that no other task delays it.
pub(crate) async fn on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: Future<Output = anyhow::Result<T>>,
{
    let generate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work())
    };
    tokio::task::spawn_blocking(generate).await.context("the load generator panicked")?
}

/// Runs the lanes, each on its own connection, on a thread of their own.
pub(crate) async fn run<L: Lane>(
    address: &Address,
    plan: Plan,
    lanes: Vec<L>,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let address = address.clone();
    on_own_thread(move || drive(address, plan, lanes, gauge)).await
}

/// The same on this thread.
pub(crate) async fn drive<L: Lane>(
    address: Address,
    plan: Plan,
    lanes: Vec<L>,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
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

/// Sends until the run is over or the lane is done; returns when the last answer came.
async fn run_lane<L: Lane>(number: u64, mut lane: L, connection: Connection, run: Arc<Run>) -> Instant {
    /// Failures in a row after which a lane gives up.
    const PATIENCE: u32 = 20;
    let mut connection = Some(connection);
    let begin = run.start + run.plan.warm_up;
    let (mut ended, mut failures) = (begin, 0);
    while failures < PATIENCE && !lane.is_done() {
        let Some(sent) = run.next(number).await else { break };
        lane.due(sent);
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

/// One request. The outer error is that of the connection, which cannot be used any more then.
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

/// The state that the lanes of one run share.
struct Run {
    address: Address,
    plan: Plan,
    gauge: Arc<Gauge>,
    start: Instant,
    /// The moments at which requests are due, if the load has a rate.
    pace: Option<Pace>,
    /// Requests begun so far, for a count.
    taken: AtomicU64,
    /// Messages of the answers so far.
    messages: AtomicU64,
    /// One for all lanes: a histogram takes hundreds of kilobytes.
    measured: Mutex<Measured>,
}

impl Run {
    /// Waits until the next request of lane `number` may be sent, and returns when it should have been sent; `None` at
    /// the end of the run.
    async fn next(&self, number: u64) -> Option<Instant> {
        /// How often a connection that the ramp does not use yet looks again.
        const RAMP_STEP: Duration = Duration::from_millis(5);
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
