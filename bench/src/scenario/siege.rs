//! Writers beside clients that keep the server busy: slow heads, idle connections, a slow reader, an import, and
//! subscribers who come and go.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use eventodb_rig::crowd::{Seen, Siege};
use tokio_util::sync::CancellationToken;

use super::Turn;
use super::hostile::fill;
use super::turn::pause;
use crate::args::Besieger;
use crate::host::Host;
use crate::load::{Loaded, on_own_thread};
use crate::rpc;
use crate::wire::Address;

/// The writers' source address, which the others do not have: connections of one address compete for the same places.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const HEADS: u64 = 1_200;
const IDLE: u64 = 5_000;
const LINES: u64 = 1_000_000;
/// Subscribers a second.
const SUBSCRIBERS: u64 = 500;
/// How long the connections may take to come.
const COMING: Duration = Duration::from_secs(20);

/// Writes alone, then beside them; the latter is measured.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(None, async |host| beside_siege(&turn, host).await).await
}

async fn beside_siege(turn: &Turn<'_>, host: &Host) -> anyhow::Result<Loaded> {
    let busy = rpc::create_namespace(&host.address, "busy").await?;
    fill(&busy).await?;
    let honest = rpc::create_namespace(&host.address, "honest").await?;
    let honest = Address { source: Some(ELSEWHERE), ..honest };
    let alone = turn.load(&honest, turn.writers(&honest, 0..turn.case.width)).await?;

    let (seen, stop) = (Arc::new(Seen::default()), CancellationToken::new());
    let number = |kind, of| if turn.session.args.besiegers.contains(&kind) { of } else { 0 };
    let siege = Siege {
        address: host.address.authority.clone(),
        token: busy.token.unwrap_or_default(),
        heads: number(Besieger::Heads, HEADS),
        idle: number(Besieger::Idle, IDLE),
        readers: number(Besieger::Reader, 1),
        lines: number(Besieger::Import, LINES),
        subscribers: number(Besieger::Subscribers, SUBSCRIBERS),
        seen: Arc::clone(&seen),
    };
    let comes = siege.heads + siege.idle;
    let held = stop.clone();
    let hold = async move {
        siege.hold(held).await;
        anyhow::Ok(())
    };
    let siege = tokio::spawn(on_own_thread(move || hold));
    let begin = Instant::now();
    while begin.elapsed() < COMING.min(2 * turn.plan.duration) && seen.open.load(Relaxed) < comes * 9 / 10 {
        pause(Duration::from_millis(50), &turn.session.gauge).await;
    }
    let (begin, before) = (Instant::now(), seen.subscriptions.load(Relaxed));
    let loaded = turn.load(&honest, turn.writers(&honest, 0..turn.case.width)).await;
    let subscriptions = (seen.subscriptions.load(Relaxed) - before) as f64 / begin.elapsed().as_secs_f64();
    let (open, lines) = (seen.open.load(Relaxed), seen.lines.load(Relaxed));
    stop.cancel();
    siege.await??;

    let mut loaded = loaded?;
    loaded.readings = [
        ("alone_p99_ms", alone.ms_at(0.99)),
        ("p99_times", loaded.ms_at(0.99) / alone.ms_at(0.99).max(f64::EPSILON)),
        ("open", open as f64),
        ("lines", lines as f64),
        ("subscriptions", subscriptions),
    ]
    .into();
    loaded.measured.fail(alone.measured);
    Ok(loaded)
}
