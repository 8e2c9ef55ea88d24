//! A day's work at once: writes at a rate, category tails, subscribers, and reads of old data.

use std::sync::Arc;

use super::read::{Filled, Place, Read};
use super::subscribers::{Watch, listen};
use super::write::{Kind, Write};
use crate::load::{self, Lane, Loaded, Plan};
use crate::measure::Gauge;
use crate::names::Names;
use crate::rpc;
use crate::wire::{Address, Reply, Template};

/// The parts.
#[derive(Clone, Debug)]
pub(crate) struct Mix {
    /// The streams.
    pub(crate) names: Names,
    /// Bytes of a message's data.
    pub(crate) size: usize,
    /// Subscribers, spread over the categories.
    pub(crate) subscribers: u64,
    /// Where old data is.
    pub(crate) filled: Filled,
    /// What is random repeats with it.
    pub(crate) seed: u64,
}

/// Connections that write.
const WRITERS: u64 = 64;
/// Reads of old data a second.
const READS: f64 = 200.0;
/// Readers that follow a category.
const TAILS: u64 = 4;
/// Connections that read old data.
const READERS: u64 = 16;

/// Runs all parts, writes at the plan's rate; what is measured is the writes, the other parts' figures beside.
pub(crate) async fn run(address: &Address, plan: Plan, mix: &Mix, gauge: Arc<Gauge>) -> anyhow::Result<Loaded> {
    let Mix { names, filled, seed, .. } = mix;
    let head = rpc::head(address).await?;
    let kind = Kind { size: mix.size, ..Kind::default() };
    let writes = (0..WRITERS).map(|n| Write::new(address, names, kind, *seed, n)).collect();
    let tails: Vec<_> =
        (0..TAILS).map(|n| Follow::new(address, &names.category(n % names.categories()), head)).collect();
    let read = |n| Read::new(address, names, Place::Anywhere, *filled, *seed, n);
    let query = |n| format!("category={}&position={}", names.category(n % names.categories()), head + 1);
    let asked = (0..mix.subscribers).map(|n| (address.clone(), query(n))).collect();
    let watch = Arc::new(Watch::default());
    let least = plan.least;
    let others = Plan { rate: None, least: 0, ..plan.clone() };
    let loads = async {
        watch.ready(mix.subscribers, &gauge).await;
        let loads = tokio::try_join!(
            load::run(address, Plan { least, ..plan }, writes, Arc::clone(&gauge)),
            load::run(address, others.clone(), tails, Arc::clone(&gauge)),
            load::run(
                address,
                Plan { rate: Some(READS), ..others },
                (0..READERS).map(read).collect(),
                Arc::clone(&gauge)
            ),
        );
        watch.stop();
        loads
    };
    let (poked, (mut written, tailed, read)) = tokio::try_join!(listen(asked, Arc::clone(&watch)), loads)?;
    let p99 = |loaded: &Loaded| loaded.measured.latencies.value_at_quantile(0.99) as f64 / 1e6;
    let pace = |loaded: &Loaded, count: u64| count as f64 / loaded.elapsed.as_secs_f64().max(f64::EPSILON);
    written.readings = [
        ("read_p99_ms", p99(&read)),
        ("reads_s", pace(&read, read.measured.latencies.len())),
        ("tail_messages_s", pace(&tailed, tailed.measured.messages)),
        ("pokes_s", pace(&poked, poked.measured.messages)),
    ]
    .into();
    written.measured.fail(tailed.measured);
    written.measured.fail(read.measured);
    Ok(written)
}

/// A lane that reads a category as it grows, each answer as soon as there is something.
#[derive(Debug)]
struct Follow {
    template: Template,
    position_at: usize,
    position: u64,
}

const POSITION: &str = "                   0";

impl Follow {
    /// From behind `head` on.
    fn new(address: &Address, category: &str, head: u64) -> Self {
        let body = format!(r#"["category.get","{category}",{{"position":{POSITION},"batchSize":1000,"waitMs":1000}}]"#);
        let template = address.call(&body);
        let position_at = template.find(POSITION).expect("the position stands in the body");
        Self { template, position_at, position: head + 1 }
    }
}

impl Lane for Follow {
    fn request(&mut self) -> &[u8] {
        self.template.patch(self.position_at, &format!("{:>20}", self.position));
        self.template.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        let messages = super::read::count(reply.success()?);
        let last = match reply.header("x-eventodb-head") {
            Some(head) => head.parse().ok(),
            None => super::catch_up::last_position(reply.body),
        };
        if let Some(last) = last {
            self.position = self.position.max(last + 1);
        }
        Ok(messages)
    }
}
