//! The time from a write that is sent to the poke that is parsed, with one subscriber or many; and writes beside a
//! category that many subscribe to.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use super::Turn;
use super::write::message;
use crate::Distribution;
use crate::load::{Loaded, on_own_thread};
use crate::measure::{Gauge, Measured};
use crate::names::Names;
use crate::pace::Pace;
use crate::rpc;
use crate::wire::{Address, Connection, Events, Template, pokes};

/// The subscribers and the pace of the writes.
#[derive(Clone, Debug)]
struct Plan {
    address: Address,
    /// Connections that subscribe, spread evenly over the categories.
    subscribers: u64,
    /// Categories of their own, so that nothing else is written to them; writes go to each in turn.
    names: Names,
    /// Writes a second.
    rate: f64,
    duration: Duration,
    /// Bytes of a message's data.
    size: usize,
    /// Notified once all subscriptions are open.
    ready: Arc<Notify>,
    /// Set to end the writes before their time.
    over: Arc<AtomicBool>,
    gauge: Arc<Gauge>,
}

/// How long the last pokes may take after the last write.
const GRACE: Duration = Duration::from_secs(10);
/// Writes a second where nothing else is said.
const RATE: f64 = 50.0;

impl Plan {
    fn new(turn: &Turn<'_>, categories: u64) -> Self {
        Self {
            address: turn.main(),
            subscribers: turn.subscribers(),
            names: Names::new(categories, categories, Distribution::Uniform).with_prefix("poked"),
            rate: turn.plan.rate.unwrap_or(RATE),
            duration: turn.plan.duration,
            size: turn.session.args.size,
            ready: Arc::default(),
            over: Arc::default(),
            gauge: turn.gauge(),
        }
    }
}

/// Measures the pokes of subscribers that are spread over categories.
pub(super) async fn run(turn: Turn<'_>, categories: u64) -> anyhow::Result<Loaded> {
    poke(Plan::new(&turn, categories)).await
}

/// Measures writes to the usual categories beside a category that is written to at a low rate and poked to many.
pub(super) async fn beside_writes(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let pokes = Plan { rate: RATE, duration: Duration::MAX / 4, ..Plan::new(&turn, 1) };
    let (over, ready, address) = (Arc::clone(&pokes.over), Arc::clone(&pokes.ready), turn.main());
    let writes = async {
        // Writes at full speed would delay the subscribers that still connect.
        ready.notified().await;
        let written = turn.load(&address, turn.writers(&address)).await;
        over.store(true, Ordering::Relaxed);
        written
    };
    let (mut written, poked) = tokio::try_join!(writes, poke(pokes))?;
    let pokes = poked.pace(poked.measured.messages);
    written.readings = [("pokes_s", pokes), ("poke_p99_ms", poked.ms_at(0.99))].into();
    written.measured.fail(poked.measured);
    Ok(written)
}

/// Subscribes, writes at the rate, and waits for every poke.
async fn poke(plan: Plan) -> anyhow::Result<Loaded> {
    on_own_thread(move || async move { drive(&plan).await }).await
}

async fn drive(plan: &Plan) -> anyhow::Result<Loaded> {
    let (stop, stopped) = watch::channel(None);
    let mut listeners = JoinSet::new();
    // Behind the head, so that no older message is poked.
    let position = rpc::head(&plan.address).await? + 1;
    for number in 0..plan.subscribers {
        let category = number % plan.names.categories;
        let query = format!("category={}&position={position}", plan.names.category(category));
        let connection = Connection::open_from(&plan.address, number).await?;
        let events = Events::over(connection, &plan.address, &query).await?;
        listeners.spawn(listen(events, category, Arc::clone(&plan.gauge), stopped.clone()));
    }
    plan.ready.notify_one();
    let begin = Instant::now();
    let Written { sent, took } = write(plan, begin).await?;
    let mut expected: HashMap<u64, u64> = HashMap::new();
    sent.values().for_each(|(category, _)| *expected.entry(*category).or_default() += 1);
    stop.send(Some((expected.clone(), Instant::now() + GRACE))).context("no subscriber is left")?;
    let (mut measured, mut end) = (Measured::default(), begin);
    while let Some(heard) = listeners.join_next().await {
        let (category, heard) = heard.context("a subscriber panicked")??;
        let lost = expected.get(&category).copied().unwrap_or_default().saturating_sub(heard.len() as u64);
        if lost > 0 {
            measured.error(&anyhow::anyhow!("{lost} pokes did not come"));
        }
        for (position, at) in heard {
            if let Some((_, sent)) = sent.get(&position) {
                measured.answer(at - *sent, at - begin, 1);
                end = end.max(at);
            }
        }
    }
    let readings = [("write_p50_ms", took.value_at_quantile(0.5) as f64 / 1e6)].into();
    Ok(Loaded { measured, elapsed: end - begin, readings, ..Loaded::default() })
}

/// The number of pokes that each category's subscribers must get, and how long they wait for them.
type Stop = watch::Receiver<Option<(HashMap<u64, u64>, Instant)>>;

/// Notes when each poke came, until all have come or it is too late.
async fn listen(
    mut events: Events,
    category: u64,
    gauge: Arc<Gauge>,
    mut stop: Stop,
) -> anyhow::Result<(u64, Vec<(i64, Instant)>)> {
    let mut heard = Vec::new();
    let mut until: Option<(u64, Instant)> = None;
    while until.is_none_or(|(wanted, _)| (heard.len() as u64) < wanted) {
        let deadline = until.map_or_else(|| Instant::now() + Duration::from_secs(3600), |(_, deadline)| deadline);
        let take = |frames: &[u8]| {
            let (now, before) = (Instant::now(), heard.len());
            heard.extend(pokes(frames).map(|position| (position, now)));
            gauge.requests.fetch_add((heard.len() - before) as u64, Ordering::Relaxed);
        };
        tokio::select! {
            changed = stop.changed(), if until.is_none() => {
                changed.context("the writer ended")?;
                until = stop.borrow().as_ref().map(|(wanted, deadline)| {
                    (wanted.get(&category).copied().unwrap_or_default(), *deadline)
                });
            }
            result = events.next(take) => result?,
            () = tokio::time::sleep_until(deadline.into()) => break,
        }
    }
    Ok((category, heard))
}

/// The writes of a round.
#[derive(Debug)]
struct Written {
    /// For each global position its category, and when it should have been sent.
    sent: HashMap<i64, (u64, Instant)>,
    /// How long the writes took, from when they should have been sent.
    took: Histogram<u64>,
}

/// Writes at the rate.
async fn write(plan: &Plan, begin: Instant) -> anyhow::Result<Written> {
    /// Connections that write in turn, so that a slow answer delays no other write.
    const WRITERS: usize = 8;
    let mut writers = JoinSet::new();
    let mut written = Written { sent: HashMap::new(), took: Measured::default().latencies };
    // Used in turn, because the server closes a connection that never sends.
    let mut idle = VecDeque::new();
    for _ in 0..WRITERS {
        idle.push_back(Connection::open(&plan.address).await?);
    }
    let message = message(plan.size);
    let pace = Pace::new(begin, plan.rate);
    for number in 0.. {
        let moment = pace.next().await;
        if moment - begin >= plan.duration || plan.over.load(Ordering::Relaxed) || plan.gauge.is_stopped() {
            break;
        }
        let connection = match idle.pop_front() {
            Some(connection) => connection,
            None => written.take(writers.join_next().await.context("no writer is under way")?)?,
        };
        let category = number % plan.names.categories;
        let body = format!(r#"["stream.write","{}-poke",{message}]"#, plan.names.category(category));
        writers.spawn(write_one(connection, plan.address.call(&body), category, moment));
        while let Some(done) = writers.try_join_next() {
            idle.push_back(written.take(done)?);
        }
    }
    while let Some(done) = writers.join_next().await {
        written.take(done)?;
    }
    Ok(written)
}

/// A write that was answered.
#[derive(Debug)]
struct One {
    connection: Connection,
    position: i64,
    category: u64,
    moment: Instant,
    took: Duration,
}

impl Written {
    /// Notes a write; returns its connection.
    fn take(&mut self, done: Result<anyhow::Result<One>, tokio::task::JoinError>) -> anyhow::Result<Connection> {
        let one = done.context("a writer panicked")??;
        self.sent.insert(one.position, (one.category, one.moment));
        self.took.saturating_record(u64::try_from(one.took.as_nanos()).unwrap_or(u64::MAX));
        Ok(one.connection)
    }
}

async fn write_one(
    mut connection: Connection,
    request: Template,
    category: u64,
    moment: Instant,
) -> anyhow::Result<One> {
    let reply = connection.exchange(&request.bytes).await?;
    let took = moment.elapsed();
    let written: serde_json::Value = serde_json::from_slice(reply.success()?)?;
    let position = written["globalPosition"].as_i64().context("a write without a global position")?;
    Ok(One { connection, position, category, moment, took })
}
