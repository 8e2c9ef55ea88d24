//! The time from a write until the checkpoint behind it is stored, with four members; and the same while one partition is
//! behind by everything that was preloaded.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use eventodb_protocol::group::partition_of;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::Turn;
use super::super::write::message;
use super::{Member, PARTITIONS, create, delete};
use crate::load::{self, Lane, Loaded, Plan, on_own_thread};
use crate::measure::{Gauge, Measured};
use crate::rpc;
use crate::wire::{Address, Connection, Reply, Template};

const MEMBERS: usize = 4;
/// Connections that write in turn, so that a slow answer delays no other write.
const WRITERS: u64 = 8;
/// Streams that are written to.
const STREAMS: usize = 256;
/// The partition that is behind. Nothing else is written to it.
const BEHIND: u32 = 0;
/// How long a read waits for a message.
const WAIT_MS: u64 = 200;
/// How long the last checkpoints may take after the last write.
const GRACE: Duration = Duration::from_secs(10);

/// What writers and members share.
#[derive(Debug, Default)]
struct Shared {
    begun: AtomicU64,
    /// For each global position when its write should have been sent.
    sent: Mutex<HashMap<i64, Instant>>,
    /// For each global position when its checkpoint was stored.
    stored: Mutex<HashMap<i64, Instant>>,
    /// Messages of the partition that is behind.
    old: AtomicU64,
    is_over: AtomicBool,
}

/// Measures writes of a category of their own.
pub(crate) async fn live(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    measure(turn, false).await
}

/// The same, with a partition that begins with the first message of the log.
pub(crate) async fn behind(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    measure(turn, true).await
}

async fn measure(turn: Turn<'_>, is_behind: bool) -> anyhow::Result<Loaded> {
    let (address, gauge, size) = (turn.main(), turn.gauge(), turn.session.args.size);
    let plan = Plan { rate: turn.plan.rate, duration: turn.plan.duration, ..Plan::default() };
    // All messages, so that the partition has old ones.
    let options = json!({ "partitions": PARTITIONS, "start": "end" });
    let group = create(&address, &options).await?;
    let (at, named) = (address.clone(), group.clone());
    let work = move || async move {
        let members = settled(&at, &named).await?;
        if is_behind {
            let reset = json!(["group.reset", named, { "to": "beginning", "partitions": [BEHIND] }]);
            rpc::call(&at, &reset).await?;
        }
        run(&at, members, plan, size, gauge).await
    };
    let loaded = on_own_thread(work).await;
    delete(&address, &group).await?;
    loaded
}

/// Members that have their fair shares.
async fn settled(address: &Address, group: &str) -> anyhow::Result<Vec<Member>> {
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(Member::join(address, group, Connection::open(address).await?).await?);
    }
    let share = PARTITIONS as usize / MEMBERS;
    while members.iter().any(|member| member.known.assigned.len() != share) {
        for member in &mut members {
            member.heartbeat(0).await?;
        }
    }
    Ok(members)
}

async fn run(
    address: &Address,
    members: Vec<Member>,
    plan: Plan,
    size: usize,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let shared = Arc::new(Shared::default());
    let mut handling: JoinSet<anyhow::Result<()>> =
        members.into_iter().map(|member| handle(member, Arc::clone(&shared))).collect();
    let lanes = (0..WRITERS).map(|_| Writing::new(address, size, Arc::clone(&shared))).collect();
    let begin = Instant::now();
    let written = load::drive(address.clone(), plan, lanes, Arc::clone(&gauge)).await?;
    let end = Instant::now();
    while !shared.is_all_stored() && end.elapsed() < GRACE && !gauge.is_stopped() && handling.try_join_next().is_none()
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let old = shared.old.load(Ordering::Relaxed);
    shared.is_over.store(true, Ordering::Relaxed);
    while let Some(ended) = handling.join_next().await {
        ended.context("a member panicked")??;
    }
    let mut loaded = shared.loaded(begin, gauge.is_stopped());
    loaded.readings =
        [("write_p50_ms", written.ms_at(0.5)), ("old_messages_s", old as f64 / begin.elapsed().as_secs_f64())].into();
    loaded.measured.fail(written.measured);
    Ok(loaded)
}

/// Reads, and stores a checkpoint as soon as a page is handled.
async fn handle(mut member: Member, shared: Arc<Shared>) -> anyhow::Result<()> {
    while !shared.is_over.load(Ordering::Relaxed) {
        let rows = member.read(WAIT_MS).await?;
        if rows.is_empty() {
            continue;
        }
        member.heartbeat(0).await?;
        let now = Instant::now();
        let mut stored = shared.stored();
        for row in rows {
            if row.8 == BEHIND {
                shared.old.fetch_add(1, Ordering::Relaxed);
            } else {
                stored.insert(row.4, now);
            }
        }
    }
    Ok(())
}

impl Shared {
    fn sent(&self) -> MutexGuard<'_, HashMap<i64, Instant>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> MutexGuard<'_, HashMap<i64, Instant>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_all_stored(&self) -> bool {
        let stored = self.stored();
        self.sent().keys().all(|position| stored.contains_key(position))
    }

    /// The checkpoints, each measured from when its write should have been sent.
    fn loaded(&self, begin: Instant, is_stopped: bool) -> Loaded {
        let (sent, stored) = (self.sent(), self.stored());
        let (mut measured, mut elapsed) = (Measured::default(), Duration::ZERO);
        let mut lost = 0;
        for (position, due) in sent.iter() {
            match stored.get(position) {
                Some(at) => {
                    measured.answer(*at - *due, *at - begin, 1);
                    elapsed = elapsed.max(*at - begin);
                }
                None => lost += 1,
            }
        }
        if lost > 0 && !is_stopped {
            measured.error(&anyhow::anyhow!("{lost} messages were not handled"));
        }
        Loaded { measured, elapsed, ..Loaded::default() }
    }
}

/// A lane that writes to the streams, which all lanes take in turn.
#[derive(Debug)]
struct Writing {
    /// A request for each stream.
    requests: Vec<Template>,
    due: Instant,
    shared: Arc<Shared>,
}

impl Writing {
    fn new(address: &Address, size: usize, shared: Arc<Shared>) -> Self {
        let message = message(size);
        let streams = (0..).map(|number| format!("live-{number}"));
        let streams = streams.filter(|stream| partition_of(stream, PARTITIONS) != BEHIND).take(STREAMS);
        let requests = streams.map(|stream| address.call(&format!(r#"["stream.write","{stream}",{message}]"#)));
        Self { requests: requests.collect(), due: Instant::now(), shared }
    }
}

impl Lane for Writing {
    fn due(&mut self, moment: Instant) {
        self.due = moment;
    }

    fn request(&mut self) -> &[u8] {
        let number = self.shared.begun.fetch_add(1, Ordering::Relaxed) as usize % self.requests.len();
        &self.requests[number].bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let written: serde_json::Value = serde_json::from_slice(reply.success()?)?;
        let position = written["globalPosition"].as_i64().context("a write without a global position")?;
        self.shared.sent().insert(position, self.due);
        Ok(1)
    }
}
