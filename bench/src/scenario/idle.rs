//! What waiting costs: ten thousand subscriptions that nothing happens to, and a server that nobody asks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::subscribers::{Watch, listen};
use crate::host::{Host, cpu};
use crate::load::Loaded;
use crate::measure::{Gauge, Measured};
use crate::names::Names;
use crate::rpc;

/// How long a server may take to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// Opens `count` subscriptions over the categories and lets them be for so long.
pub(crate) async fn subscriptions(
    host: &Host,
    names: &Names,
    count: u64,
    duration: Duration,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let pid = host.pid();
    let used = || pid.and_then(cpu).unwrap_or_default();
    let spent = used();
    write_one(host, names).await?;
    tokio::time::sleep(REST.min(duration)).await;
    let before = host.vitals()?;
    let query = |n| format!("category={}", names.category(n % names.categories()));
    let asked = (0..count).map(|n| (host.address.clone(), query(n))).collect();
    let watch = Arc::new(Watch::default());
    let rest = async {
        if watch.ready(count, &gauge).await {
            tokio::time::sleep(REST.min(duration)).await;
        }
        let (begin, before) = (Instant::now(), used());
        super::pause(duration, &gauge).await;
        let cores = (used() - before).as_secs_f64() / begin.elapsed().as_secs_f64();
        let after = host.vitals();
        watch.stop();
        after.map(|after| (after, cores))
    };
    let (mut loaded, (after, cores)) = tokio::try_join!(listen(asked, Arc::clone(&watch)), rest)?;
    loaded.server_s = Some((used() - spent).as_secs_f64());
    loaded.readings = [
        ("kib_each", (after.resident_kib - before.resident_kib) / count as f64),
        ("resident_mib", after.resident_kib / 1024.0),
        ("core_percent", cores * 100.0),
    ]
    .into();
    Ok(loaded)
}

/// What a server holds that has one message and that nobody asks for so long.
pub(crate) async fn server(
    host: &Host,
    names: &Names,
    duration: Duration,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let mut measured = Measured::default();
    let begin = Instant::now();
    write_one(host, names).await?;
    measured.answer(begin.elapsed(), begin.elapsed(), 1);
    super::pause(duration, &gauge).await;
    let vitals = host.vitals()?;
    let readings = [("resident_mib", vitals.resident_kib / 1024.0), ("threads", vitals.threads)].into();
    Ok(Loaded { measured, elapsed: begin.elapsed(), readings, ..Loaded::default() })
}

async fn write_one(host: &Host, names: &Names) -> anyhow::Result<()> {
    let message = serde_json::json!({"type": "Deposited", "data": {"amount": 1}});
    rpc::call(&host.address, &serde_json::json!(["stream.write", names.stream(0), message])).await.map(drop)
}
