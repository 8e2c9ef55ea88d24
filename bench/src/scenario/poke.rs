//! From a write that is sent to the poke that is parsed, with many subscribers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::write::data;
use crate::load::Loaded;
use crate::measure::{Gauge, Measured};
use crate::names::Names;
use crate::pace::Pace;
use crate::rpc;
use crate::wire::{Address, Connection, Events, pokes};

/// How many listen and how fast is written.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Connections that subscribe, spread evenly over the categories.
    pub(crate) subscribers: u64,
    /// The names of the categories; writes go to each in turn.
    pub(crate) names: Names,
    /// Writes a second.
    pub(crate) rate: f64,
    /// For how long.
    pub(crate) duration: Duration,
    /// Bytes of a message's data.
    pub(crate) size: usize,
    /// Told once all subscribe.
    pub(crate) ready: Arc<Notify>,
    /// Set where it shall end before its time.
    pub(crate) over: Arc<AtomicBool>,
}

/// How long the last pokes may take after the last write.
const GRACE: Duration = Duration::from_secs(10);

/// Subscribes, writes at the rate, and waits for every poke.
pub(crate) async fn run(address: &Address, plan: Plan, gauge: Arc<Gauge>) -> anyhow::Result<Loaded> {
    let address = address.clone();
    let generate = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(drive(&address, &plan, &gauge))
    };
    tokio::task::spawn_blocking(generate).await.context("the load generator panicked")?
}

async fn drive(address: &Address, plan: &Plan, gauge: &Arc<Gauge>) -> anyhow::Result<Loaded> {
    let (stop, stopped) = tokio::sync::watch::channel(None);
    let mut listeners = JoinSet::new();
    // Beyond the head there is no history to be poked about.
    let head = rpc::head(address).await?;
    for number in 0..plan.subscribers {
        let category = number % plan.names.categories();
        let query = format!("category={}&position={}", plan.names.category(category), head + 1);
        let events = Events::over(Connection::open_from(address, number).await?, address, &query).await?;
        listeners.spawn(listen(events, category, Arc::clone(gauge), stopped.clone()));
    }
    plan.ready.notify_one();
    let begin = Instant::now();
    let Written { sent, took } = write(address, plan, gauge, begin).await?;
    let mut expected: HashMap<u64, u64> = HashMap::new();
    sent.values().for_each(|(category, _)| *expected.entry(*category).or_default() += 1);
    // A listener that has this many pokes has all.
    stop.send(Some((expected.clone(), Instant::now() + GRACE))).context("no subscriber is left")?;
    let mut measured = Measured::default();
    let mut end = begin;
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
    let write_p50_ms = took.value_at_quantile(0.5) as f64 / 1e6;
    Ok(Loaded {
        measured,
        elapsed: end - begin,
        readings: [("write_p50_ms", write_p50_ms)].into(),
        ..Loaded::default()
    })
}

type Stop = tokio::sync::watch::Receiver<Option<(HashMap<u64, u64>, Instant)>>;

/// Notes when each poke came, until all have.
async fn listen(
    mut events: Events,
    category: u64,
    gauge: Arc<Gauge>,
    mut stop: Stop,
) -> anyhow::Result<(u64, Vec<(i64, Instant)>)> {
    let mut heard = Vec::new();
    let mut until: Option<(u64, Instant)> = None;
    loop {
        if until.is_some_and(|(wanted, _)| heard.len() as u64 >= wanted) {
            return Ok((category, heard));
        }
        let deadline = until.map_or_else(|| Instant::now() + Duration::from_secs(3600), |(_, deadline)| deadline);
        tokio::select! {
            changed = stop.changed(), if until.is_none() => {
                changed.context("the writer ended")?;
                until = stop.borrow().as_ref().map(|(wanted, deadline)| {
                    (wanted.get(&category).copied().unwrap_or_default(), *deadline)
                });
            }
            result = events.next(|frames| {
                let now = Instant::now();
                let before = heard.len();
                heard.extend(pokes(frames).map(|position| (position, now)));
                gauge.requests.fetch_add((heard.len() - before) as u64, Ordering::Relaxed);
            }) => result?,
            () = tokio::time::sleep_until(deadline.into()) => return Ok((category, heard)),
        }
    }
}

/// What was written.
#[derive(Debug)]
struct Written {
    /// For each global position its category, and when it should have been sent.
    sent: HashMap<i64, (u64, Instant)>,
    /// How long the writes took, from when they should have been sent.
    took: Histogram<u64>,
}

/// Writes at the rate.
async fn write(address: &Address, plan: &Plan, gauge: &Gauge, begin: Instant) -> anyhow::Result<Written> {
    /// So many connections write in turn, so that a slow answer holds up no other write.
    const WRITERS: usize = 8;
    let mut writers = JoinSet::new();
    let mut written = Written { sent: HashMap::new(), took: Measured::default().latencies };
    // In turn: one that never sends would be closed by the server.
    let mut idle = VecDeque::new();
    for _ in 0..WRITERS {
        idle.push_back(Connection::open(address).await?);
    }
    let data = data(plan.size);
    let pace = Pace::new(begin, plan.rate);
    for number in 0.. {
        let moment = pace.next().await;
        if moment - begin >= plan.duration || plan.over.load(Ordering::Relaxed) || gauge.is_stopped() {
            break;
        }
        let connection = match idle.pop_front() {
            Some(connection) => connection,
            None => {
                let done = writers.join_next().await.context("no writer is under way")?;
                written.take(done.context("a writer panicked")??)
            }
        };
        let category = number % plan.names.categories();
        let stream = format!("{}-poke", plan.names.category(category));
        let body = format!(r#"["stream.write","{stream}",{{"type":"Deposited","data":{data}}}]"#);
        writers.spawn(write_one(connection, address.call(&body), category, moment));
        while let Some(done) = writers.try_join_next() {
            idle.push_back(written.take(done.context("a writer panicked")??));
        }
    }
    while let Some(done) = writers.join_next().await {
        written.take(done.context("a writer panicked")??);
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
    /// Notes a write; gives back its connection.
    fn take(&mut self, one: One) -> Connection {
        self.sent.insert(one.position, (one.category, one.moment));
        self.took.saturating_record(u64::try_from(one.took.as_nanos()).unwrap_or(u64::MAX));
        one.connection
    }
}

async fn write_one(
    mut connection: Connection,
    request: crate::wire::Template,
    category: u64,
    moment: Instant,
) -> anyhow::Result<One> {
    let reply = connection.exchange(request.bytes()).await?;
    let took = moment.elapsed();
    let written: serde_json::Value = serde_json::from_slice(reply.success()?)?;
    let position = written["globalPosition"].as_i64().context("a write without a global position")?;
    Ok(One { connection, position, category, moment, took })
}
