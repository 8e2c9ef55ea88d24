//! The time from a write that is sent to the poke that is parsed, with one subscriber or many; and writes beside a
//! category that many subscribe to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::Turn;
use super::listen::{Watch, listen};
use super::write::message;
use crate::Distribution;
use crate::load::{self, Lane, Loaded, Plan, on_own_thread};
use crate::measure::{Gauge, Measured};
use crate::names::Names;
use crate::rpc;
use crate::wire::{Address, Reply, Template};

/// How long the last pokes may take after the last write.
const GRACE: Duration = Duration::from_secs(10);
/// Writes a second where nothing else is said.
const RATE: f64 = 50.0;
/// Connections that write in turn, so that a slow answer delays no other write.
const WRITERS: u64 = 8;

/// Writes at a rate, and the subscribers that are poked about them.
struct Pokes {
    address: Address,
    /// Connections that subscribe, spread evenly over the categories.
    subscribers: u64,
    /// Categories of their own, so that nothing else is written to them; writes go to each in turn.
    names: Names,
    plan: Plan,
    /// Bytes of a message's data.
    size: usize,
    watch: Arc<Watch>,
    gauge: Arc<Gauge>,
    /// Stops the writes. It is the gauge of the run, unless the writes are to end before it.
    writes: Arc<Gauge>,
}

/// Measures the pokes of subscribers that are spread over categories.
pub(super) async fn run(turn: Turn<'_>, categories: u64) -> anyhow::Result<Loaded> {
    let pokes = Pokes::new(&turn, categories);
    on_own_thread(move || pokes.measure()).await
}

/// Measures writes to the usual categories beside a category that is written to at a low rate and poked to many.
pub(super) async fn beside_writes(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let mut pokes = Pokes { writes: Arc::default(), ..Pokes::new(&turn, 1) };
    pokes.plan.duration = Duration::MAX / 4;
    let (watch, poking, subscribers) = (Arc::clone(&pokes.watch), Arc::clone(&pokes.writes), pokes.subscribers);
    let address = turn.main();
    let writes = async {
        // Writes at full speed would delay the subscribers that still connect.
        watch.ready(subscribers, &turn.session.gauge).await;
        let written = turn.load(&address, turn.writers(&address, 0..turn.case.width)).await;
        poking.stop.store(true, Ordering::Relaxed);
        written
    };
    let (mut written, poked) = tokio::try_join!(writes, on_own_thread(move || pokes.measure()))?;
    let pokes = poked.pace(poked.measured.messages);
    written.readings = [("pokes_s", pokes), ("poke_p99_ms", poked.ms_at(0.99))].into();
    written.measured.fail(poked.measured);
    Ok(written)
}

impl Pokes {
    fn new(turn: &Turn<'_>, categories: u64) -> Self {
        let rate = turn.plan.rate.or(Some(RATE));
        Self {
            address: turn.main(),
            subscribers: turn.subscribers(),
            names: Names::new(categories, categories, Distribution::Uniform).with_prefix("poked"),
            plan: Plan { rate, duration: turn.plan.duration, ..Plan::default() },
            size: turn.session.args.size,
            watch: Arc::default(),
            gauge: turn.gauge(),
            writes: turn.gauge(),
        }
    }

    /// Subscribes, writes at the rate, and waits for every poke: all on this thread.
    async fn measure(self) -> anyhow::Result<Loaded> {
        // Behind the head, so that no older message is poked.
        let position = rpc::head(&self.address).await? + 1;
        let query = |n| format!("category={}&position={position}", self.names.category(n));
        let asked = (0..self.subscribers).map(|n| (self.address.clone(), query(n))).collect();
        let sent = Arc::new(Sent::default());
        let writes = async {
            self.watch.ready(self.subscribers, &self.gauge).await;
            let lanes = (0..WRITERS).map(|_| Poking::new(&self, Arc::clone(&sent))).collect();
            let written = load::drive(self.address.clone(), self.plan.clone(), lanes, Arc::clone(&self.writes)).await;
            self.watch.poked(self.expected(&sent).iter().sum(), GRACE, &self.gauge).await;
            self.watch.stop();
            written
        };
        let (_, written) = tokio::try_join!(listen(asked, &self.watch), writes)?;
        let mut loaded = self.loaded(&sent);
        loaded.readings = [("write_p50_ms", written.ms_at(0.5))].into();
        loaded.measured.fail(written.measured);
        Ok(loaded)
    }

    /// How often each subscriber is to be poked.
    fn expected(&self, sent: &Sent) -> Vec<u64> {
        let mut of_category = vec![0; self.names.categories as usize];
        sent.messages().values().for_each(|(category, _)| of_category[*category] += 1);
        of_category.iter().copied().cycle().take(self.subscribers as usize).collect()
    }

    /// The pokes that came, each measured from when its write should have been sent.
    fn loaded(&self, sent: &Sent) -> Loaded {
        let expected = self.expected(sent);
        let sent = sent.messages();
        let (mut measured, mut elapsed) = (Measured::default(), Duration::ZERO);
        let begin = sent.values().map(|(_, due)| *due).min().unwrap_or_else(Instant::now);
        for (heard, expected) in self.watch.heard().iter().zip(expected) {
            let lost = expected.saturating_sub(heard.len() as u64);
            if lost > 0 && !self.gauge.is_stopped() {
                measured.error(&anyhow::anyhow!("{lost} pokes did not come"));
            }
            for (position, at) in heard {
                if let Some((_, due)) = sent.get(position) {
                    measured.answer(*at - *due, *at - begin, 1);
                    elapsed = elapsed.max(*at - begin);
                }
            }
        }
        Loaded { measured, elapsed, ..Loaded::default() }
    }
}

/// The writes of a round.
#[derive(Debug, Default)]
struct Sent {
    begun: AtomicU64,
    /// For each global position the number of its category, and when the write should have been sent.
    messages: Mutex<HashMap<i64, (usize, Instant)>>,
}

impl Sent {
    fn messages(&self) -> std::sync::MutexGuard<'_, HashMap<i64, (usize, Instant)>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lane that writes to the categories, which all lanes take in turn.
#[derive(Debug)]
struct Poking {
    /// A request for each category.
    requests: Vec<Template>,
    category: usize,
    due: Instant,
    sent: Arc<Sent>,
}

impl Poking {
    fn new(pokes: &Pokes, sent: Arc<Sent>) -> Self {
        let message = message(pokes.size);
        let body = |n| format!(r#"["stream.write","{}-poke",{message}]"#, pokes.names.category(n));
        let requests = (0..pokes.names.categories).map(|n| pokes.address.call(&body(n))).collect();
        Self { requests, category: 0, due: Instant::now(), sent }
    }
}

impl Lane for Poking {
    fn due(&mut self, moment: Instant) {
        self.due = moment;
    }

    fn request(&mut self) -> &[u8] {
        self.category = self.sent.begun.fetch_add(1, Ordering::Relaxed) as usize % self.requests.len();
        &self.requests[self.category].bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let written: serde_json::Value = serde_json::from_slice(reply.success()?)?;
        let position = written["globalPosition"].as_i64().context("a write without a global position")?;
        self.sent.messages().insert(position, (self.category, self.due));
        Ok(1)
    }
}
