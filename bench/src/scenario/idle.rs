//! The cost of waiting: ten thousand subscriptions without messages, and a server without requests.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Turn;
use super::listen::beside;
use super::turn::pause;
use crate::host::Host;
use crate::load::Loaded;
use crate::measure::Measured;
use crate::names::Names;
use crate::rpc;

/// How long a server may take to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// Opens subscriptions over the categories, and measures what they cost while nothing happens.
pub(super) async fn subscriptions(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(None, async |host| {
        let (names, count, duration, gauge) = (turn.names(), turn.subscribers(), turn.plan.duration, turn.gauge());
        let spent = host.used();
        write_one(host, &names).await?;
        tokio::time::sleep(REST.min(duration)).await;
        let before = host.vitals()?;
        let asked = (0..count).map(|n| (host.address.clone(), format!("category={}", names.category(n)))).collect();
        let rest = async {
            tokio::time::sleep(REST.min(duration)).await;
            let (begin, before) = (Instant::now(), host.used());
            pause(duration, &gauge).await;
            let cores = host.used().saturating_sub(before).as_secs_f64() / begin.elapsed().as_secs_f64();
            Ok((host.vitals()?, cores))
        };
        let (mut loaded, (after, cores)) = beside(asked, Arc::default(), &gauge, rest).await?;
        loaded.server_s = Some(host.used().saturating_sub(spent).as_secs_f64());
        loaded.readings = [
            ("kib_each", (after.resident_mib - before.resident_mib) * 1024.0 / count as f64),
            ("resident_mib", after.resident_mib),
            ("core_percent", cores * 100.0),
        ]
        .into();
        Ok(loaded)
    })
    .await
}

/// Measures the memory of a server with one message and without requests.
pub(super) async fn server(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(None, async |host| {
        let (mut measured, begin) = (Measured::default(), Instant::now());
        write_one(host, &turn.session.names).await?;
        measured.answer(begin.elapsed(), begin.elapsed(), 1);
        pause(turn.plan.duration, &turn.session.gauge).await;
        let vitals = host.vitals()?;
        let readings = [("resident_mib", vitals.resident_mib), ("threads", vitals.threads)].into();
        Ok(Loaded { measured, elapsed: begin.elapsed(), readings, ..Loaded::default() })
    })
    .await
}

async fn write_one(host: &Host, names: &Names) -> anyhow::Result<()> {
    let message = serde_json::json!({"type": "Deposited", "data": {"amount": 1}});
    rpc::call(&host.address, &serde_json::json!(["stream.write", names.stream(0), message])).await.map(drop)
}
