//! Thousands of namespaces, each written to once a second and with one subscriber.

use std::sync::Arc;
use std::time::Duration;

use super::subscribers::{Watch, listen};
use super::write::data;
use crate::host::{Host, cpu};
use crate::load::{self, Lane, Loaded, Plan};
use crate::measure::Gauge;
use crate::rpc;
use crate::wire::{Address, Reply, Template};

/// Connections that write.
const CONNECTIONS: usize = 64;
/// How long the last pokes may take after the last write.
const GRACE: Duration = Duration::from_secs(10);

/// Makes so many namespaces, with one message each.
pub(crate) async fn create(address: &Address, count: u64, gauge: &Gauge) -> anyhow::Result<Vec<Address>> {
    let mut made = Vec::new();
    for number in 0..count {
        gauge.go_on(|| format!("namespaces were made: {number} of {count}"))?;
        let namespace = rpc::create_namespace(address, &format!("bench-{number:06}")).await?;
        let message = serde_json::json!({"type": "Deposited", "data": {"amount": 1}});
        rpc::call(&namespace, &serde_json::json!(["stream.write", "account-1", message])).await?;
        made.push(namespace);
    }
    Ok(made)
}

/// Writes to each in turn at the plan's rate, each with a subscriber.
pub(crate) async fn run(
    host: &Host,
    namespaces: &[Address],
    plan: Plan,
    size: usize,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let write = format!(r#"["stream.write","account-1",{{"type":"Deposited","data":{}}}]"#, data(size));
    let lanes: Vec<Turns> = (0..CONNECTIONS.min(namespaces.len()))
        .map(|lane| Turns {
            writes: namespaces.iter().skip(lane).step_by(CONNECTIONS).map(|address| address.call(&write)).collect(),
            next: 0,
        })
        .collect();
    // From now on: what was there before is no poke of this run.
    let asked = namespaces.iter().map(|address| (address.clone(), "all=true".to_owned())).collect();
    let watch = Arc::new(Watch::default());
    let spent = host.pid().and_then(cpu).unwrap_or_default();
    let writes = async {
        let count = namespaces.len() as u64;
        let is_ready = watch.ready(count, &gauge).await;
        let loaded = load::run(&host.address, plan, lanes, Arc::clone(&gauge)).await;
        if let (true, Ok(loaded)) = (is_ready, &loaded) {
            watch.poked(loaded.measured.messages, GRACE, &gauge).await;
        }
        let vitals = host.vitals();
        watch.stop();
        Ok((loaded?, vitals?))
    };
    let (poked, (mut loaded, vitals)) = tokio::try_join!(listen(asked, Arc::clone(&watch)), writes)?;
    let lost = loaded.measured.messages.saturating_sub(poked.measured.messages);
    if lost > 0 && !gauge.is_stopped() {
        loaded.measured.error(&anyhow::anyhow!("{lost} pokes did not come"));
    }
    loaded.server_s = host.pid().and_then(cpu).map(|used| (used - spent).as_secs_f64());
    loaded.readings =
        [("resident_mib", vitals.resident_kib / 1024.0), ("files", vitals.files), ("threads", vitals.threads)].into();
    Ok(loaded)
}

/// A lane that writes to its namespaces in turn.
#[derive(Debug)]
struct Turns {
    writes: Vec<Template>,
    next: usize,
}

impl Lane for Turns {
    fn request(&mut self) -> &[u8] {
        let write = &self.writes[self.next % self.writes.len()];
        self.next += 1;
        write.bytes()
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success().map(|_| 1)
    }
}
