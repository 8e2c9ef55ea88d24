//! Writers beside a crowd of clients that hold as much of the server as they can.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use eventodb_rig::crowd::{Crowd, STREAM};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Turn;
use super::turn::pause;
use crate::host::{Guard, Host};
use crate::load::{Loaded, on_own_thread};
use crate::resident;
use crate::rpc;
use crate::wire::Address;

/// Namespaces whose tokens the crowd has.
const HOGS: usize = 4;
/// The writers' source address, which the crowd does not have: connections of one address compete for the same places.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
/// How long the crowd may take to connect.
const COMING: Duration = Duration::from_secs(20);
/// How long it is connected before anything is measured.
const SETTLED: Duration = Duration::from_secs(3);

/// Writes alone, then beside the crowd; the latter is measured.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let guard = Guard::new([format!("--memory-budget={}", turn.session.args.crowd_budget_mib * 1_048_576)]);
    turn.with_server(Some(&guard), async |host| beside_crowd(&turn, host).await).await
}

async fn beside_crowd(turn: &Turn<'_>, host: &Host) -> anyhow::Result<Loaded> {
    let mut tokens = Vec::new();
    for hog in 0..HOGS {
        let hog = rpc::create_namespace(&host.address, &format!("hog{hog}")).await?;
        fill(&hog).await?;
        tokens.extend(hog.token);
    }
    let honest = rpc::create_namespace(&host.address, "honest").await?;
    let honest = Address { source: Some(ELSEWHERE), ..honest };
    let alone = turn.load(&honest, turn.writers(&honest, 0..turn.case.width)).await?;
    let before = host.vitals()?.resident_mib;

    let args = &turn.session.args;
    let (open, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let address = host.address.authority.clone();
    let crowd = Crowd { address, tokens, connections: args.crowd, first: 0, open: Arc::clone(&open) };
    let held = stop.clone();
    let hold = async move {
        crowd.hold(held).await;
        anyhow::Ok(())
    };
    let crowd = tokio::spawn(on_own_thread(move || hold));
    let watch = resident::Watch::begin(host.pid(), Duration::ZERO);
    let mut most = comes(turn, &open).await;
    pause(SETTLED.min(turn.plan.duration), &turn.session.gauge).await;
    let loaded = turn.load(&honest, turn.writers(&honest, 0..turn.case.width)).await;
    most = most.max(open.load(Ordering::Relaxed));
    let resident = watch.end().await.into_iter().fold(before, f64::max);
    stop.cancel();
    crowd.await??;

    let mut loaded = loaded?;
    loaded.readings = [
        ("alone_p99_ms", alone.ms_at(0.99)),
        ("p99_times", loaded.ms_at(0.99) / alone.ms_at(0.99).max(f64::EPSILON)),
        ("crowd", most as f64),
        ("resident_mib", resident),
        ("budget_share", (resident - before) / args.crowd_budget_mib as f64),
    ]
    .into();
    loaded.measured.fail(alone.measured);
    Ok(loaded)
}

/// Waits until nine of ten are connected; returns the largest number that was seen.
async fn comes(turn: &Turn<'_>, open: &AtomicU64) -> u64 {
    let (begin, mut most) = (Instant::now(), 0);
    let wanted = turn.session.args.crowd * 9 / 10;
    while begin.elapsed() < COMING.min(2 * turn.plan.duration)
        && open.load(Ordering::Relaxed) < wanted
        && !turn.session.gauge.is_stopped()
    {
        tokio::time::sleep(Duration::from_millis(50)).await;
        most = most.max(open.load(Ordering::Relaxed));
    }
    most
}

/// Writes the messages that the crowd reads.
pub(super) async fn fill(address: &Address) -> anyhow::Result<()> {
    let message = json!({ "type": "Long", "data": { "x": "x".repeat(4_000) } });
    rpc::call(address, &json!(["stream.append", STREAM, vec![message; 200]])).await.map(drop)
}
