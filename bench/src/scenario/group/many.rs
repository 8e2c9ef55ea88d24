//! Many groups whose members have nothing to read: what they cost beyond their connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tokio::task::JoinSet;

use super::super::Turn;
use super::super::turn::pause;
use super::{Member, create};
use crate::host::Host;
use crate::load::Loaded;
use crate::measure::{Gauge, Measured};
use crate::wire::{Address, Connection};

/// Members of a group.
const MEMBERS: usize = 4;
/// How long a heartbeat waits: a third of a session.
const WAIT_MS: u64 = 10_000;
/// How long a server may take to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(2);

/// Opens a connection for each member, then joins, and measures while all of them heartbeat.
pub(crate) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    turn.with_server(None, async |host| {
        let count = usize::try_from(turn.subscribers())?;
        measure(host, count, turn.plan.duration, &turn.gauge()).await
    })
    .await
}

async fn measure(host: &Host, count: usize, duration: Duration, gauge: &Gauge) -> anyhow::Result<Loaded> {
    let (address, spent, begin) = (&host.address, host.used(), Instant::now());
    let connections = connections(address, count).await?;
    tokio::time::sleep(REST.min(duration)).await;
    let before = host.vitals()?;
    let (mut measured, over) = (Measured::default(), Arc::new(AtomicBool::new(false)));
    let mut members = JoinSet::new();
    let mut connections = connections.into_iter();
    while !gauge.is_stopped() {
        let of_group: Vec<Connection> = connections.by_ref().take(MEMBERS).collect();
        if of_group.is_empty() {
            break;
        }
        let group = create(address, &json!({ "categories": ["nothing"], "partitions": MEMBERS })).await?;
        for connection in of_group {
            let asked = Instant::now();
            let member = Member::join(address, &group, connection).await?;
            measured.answer(asked.elapsed(), begin.elapsed(), 1);
            members.spawn(keep_up(member, Arc::clone(&over)));
        }
    }
    tokio::time::sleep(REST.min(duration)).await;
    let (resting, used) = (Instant::now(), host.used());
    pause(duration, gauge).await;
    let cores = host.used().saturating_sub(used).as_secs_f64() / resting.elapsed().as_secs_f64();
    let after = host.vitals()?;
    over.store(true, Ordering::Relaxed);
    while let Some(ended) = members.try_join_next() {
        ended.context("a member panicked")??;
    }
    let readings = [
        ("kib_each", (after.resident_mib - before.resident_mib) * 1024.0 / count as f64),
        ("resident_mib", after.resident_mib),
        ("core_percent", cores * 100.0),
    ];
    let server_s = Some(host.used().saturating_sub(spent).as_secs_f64());
    Ok(Loaded { measured, elapsed: begin.elapsed(), readings: readings.into(), server_s, ..Loaded::default() })
}

/// Connections that have had an answer.
async fn connections(address: &Address, count: usize) -> anyhow::Result<Vec<Connection>> {
    let request = address.call(r#"["sys.version"]"#).bytes;
    let mut connections = Vec::new();
    for number in 0..count {
        let mut connection = Connection::open_from(address, number as u64).await?;
        connection.exchange(&request).await?.success()?;
        connections.push(connection);
    }
    Ok(connections)
}

async fn keep_up(mut member: Member, over: Arc<AtomicBool>) -> anyhow::Result<()> {
    while !over.load(Ordering::Relaxed) {
        member.heartbeat(WAIT_MS).await?;
    }
    Ok(())
}
