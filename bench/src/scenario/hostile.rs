//! Writers beside a crowd that holds whatever the server lets it hold.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::write::{Kind, Write};
use crate::host::Host;
use crate::hostile::{Crowd, STREAM, Seen};
use crate::load::{self, Loaded, Plan};
use crate::measure::Gauge;
use crate::names::Names;
use crate::resident;
use crate::rpc;
use crate::wire::Address;

/// What the server may use for what waits, in bytes: a good deal less than the crowd would take.
pub(crate) const BUDGET: u64 = 256 * 1024 * 1024;

/// Namespaces whose tokens the crowd has.
const HOGS: usize = 4;
/// Where the writers come from, and nobody of the crowd.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// How long the crowd has to come.
const COMING: Duration = Duration::from_secs(20);
/// How long it is there before anything is measured.
const SETTLED: Duration = Duration::from_secs(3);

/// Writes alone, then beside the crowd; what is measured is the latter.
pub(crate) async fn run(
    host: &Host,
    names: &Names,
    plan: Plan,
    (size, seed, writers): (usize, u64, u64),
    size_of_crowd: u64,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    let mut tokens = Vec::new();
    for hog in 0..HOGS {
        let hog = rpc::create_namespace(&host.address, &format!("hog{hog}")).await?;
        fill(&hog).await?;
        tokens.extend(hog.token().map(str::to_owned));
    }
    // From elsewhere: of one address, all who come compete for the same places.
    let honest = rpc::create_namespace(&host.address, "honest").await?.coming_from(ELSEWHERE);
    let lanes = || {
        let kind = Kind { size, ..Kind::default() };
        (0..writers).map(|n| Write::new(&honest, names, kind, seed, n)).collect::<Vec<_>>()
    };
    let alone = load::run(&honest, plan.clone(), lanes(), Arc::clone(&gauge)).await?;
    let before = host.vitals()?.resident_kib / 1024.0;

    let (seen, stop) = (Arc::new(Seen::default()), CancellationToken::new());
    let crowd =
        Crowd { url: format!("http://{}", host.address.authority()), tokens, connections: size_of_crowd, first: 0 };
    let crowd = tokio::task::spawn_blocking({
        let (seen, stop) = (Arc::clone(&seen), stop.clone());
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(crowd.hold(seen, stop))
        }
    });
    let watch = resident::Watch::begin(host.pid(), Duration::ZERO);
    let (begin, mut most) = (Instant::now(), 0);
    while begin.elapsed() < COMING.min(2 * plan.duration) && seen.open() < size_of_crowd * 9 / 10 && !gauge.is_stopped()
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(seen.open());
    }
    super::pause(SETTLED.min(plan.duration), &gauge).await;
    let loaded = load::run(&honest, plan, lanes(), gauge).await;
    most = most.max(seen.open());
    let resident = watch.end().await.into_iter().fold(before, f64::max);
    stop.cancel();
    crowd.await.context("the crowd panicked")??;

    let mut loaded = loaded?;
    let p99 = |loaded: &Loaded| loaded.measured.latencies.value_at_quantile(0.99) as f64 / 1e6;
    let budget = BUDGET as f64 / 1_048_576.0;
    loaded.readings = [
        ("alone_p99_ms", p99(&alone)),
        ("p99_times", p99(&loaded) / p99(&alone).max(f64::EPSILON)),
        ("crowd", most as f64),
        ("resident_mib", resident),
        ("budget_share", (resident - before) / budget),
    ]
    .into();
    loaded.measured.fail(alone.measured);
    Ok(loaded)
}

/// Writes what the crowd reads.
async fn fill(address: &Address) -> anyhow::Result<()> {
    let message = json!({ "type": "Long", "data": { "x": "x".repeat(4_000) } });
    rpc::call(address, &json!(["stream.append", STREAM, vec![message; 200]])).await.map(drop)
}
