//! Loads of minutes: they find pauses of the server, and memory that grows; and how long a start takes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::Turn;
use super::read::Read;
use super::write::Write;
use crate::ceiling::fsync;
use crate::load::{self, Loaded, Plan};
use crate::measure::{Measured, Second};
use crate::names::Names;
use crate::resident;
use crate::rpc;
use crate::wire::{Address, Events};

/// A pause that users notice, in milliseconds.
const STALL_MS: f64 = 50.0;
/// How often the disk is probed beside the writes. A pause of the disk may be seen shorter by this much; more frequent
/// probes would slow the writes.
const PROBE: Duration = Duration::from_millis(2);
/// Reads of old data a second of a soaking server.
const READS: f64 = 200.0;
/// Connections that write, and that read, of a soaking server.
const SOAKERS: (u64, u64) = (16, 4);
/// Subscribers that come and go, and how long each stays at most.
const CHURN: (u64, Duration) = (50, Duration::from_millis(500));

/// Writes beside a probe of the disk.
pub(super) async fn stalls(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let turn = Turn { plan: Plan { warm_up: Duration::ZERO, ..turn.plan.clone() }, ..turn };
    let address = turn.main();
    let probe = fsync::run(turn.session.directory.path(), turn.plan.duration, Some(PROBE), turn.gauge());
    let (mut loaded, probe) = tokio::try_join!(turn.load(&address, turn.writers(&address, 0..turn.case.width)), probe)?;
    let probed = probe.measured.seconds;
    let (stalled, unexplained) = count(&loaded.measured.seconds, &probed);
    loaded.readings = [
        ("stalled_seconds", stalled),
        ("unexplained_seconds", unexplained),
        ("fsync_max_ms", probed.iter().map(|second| second.max_ms).fold(0.0, f64::max)),
    ]
    .into();
    loaded.fsync_seconds = probed;
    Ok(loaded)
}

/// Seconds with a stall, and those of them in which the disk had none.
fn count(seconds: &[Second], probed: &[Second]) -> (f64, f64) {
    let disk = |n: usize| probed.get(n).map_or(0.0, |second| second.max_ms);
    let stalled: Vec<usize> = (0..seconds.len()).filter(|&n| seconds[n].max_ms > STALL_MS).collect();
    let unexplained = stalled.iter().filter(|&&n| disk(n) <= STALL_MS).count();
    (stalled.len() as f64, unexplained as f64)
}

/// Writes, reads, and subscribers that come and go, while the server's memory is watched.
pub(super) async fn soak(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let filled = turn.session.filled().await?;
    let (address, names) = (turn.main(), turn.names());
    let (writes, reads) = (turn.writers(&address, 0..SOAKERS.0), turn.readers(&address, filled, SOAKERS.1));
    let plan = Plan { warm_up: Duration::ZERO, ..turn.plan.clone() };
    let reading = Plan { rate: Some(READS), least: 0, ..plan.clone() };
    let over = AtomicBool::new(false);
    let loads = async {
        let loads = tokio::try_join!(
            load::run::<Write>(&address, plan, writes, turn.gauge()),
            load::run::<Read>(&address, reading, reads, turn.gauge()),
        );
        over.store(true, Ordering::Relaxed);
        loads
    };
    let watch = resident::Watch::begin(turn.session.main.pid(), Duration::ZERO);
    let ((mut written, read), came) = tokio::try_join!(loads, churn(&address, &names, &over))?;
    let memory = watch.end().await;
    let rest = &memory[memory.len() * 2 / 3..];
    let (low, high) = rest.iter().fold((f64::MAX, f64::MIN), |(low, high), &mib| (low.min(mib), high.max(mib)));
    written.readings = [
        ("resident_mib", rest.last().copied().unwrap_or_default()),
        ("last_third_percent", if high > 0.0 { (high - low) / low * 100.0 } else { 0.0 }),
        ("subscribers_came", came as f64),
        ("read_p99_ms", read.ms_at(0.99)),
    ]
    .into();
    written.measured.fail(read.measured);
    Ok(written)
}

/// Subscribers that come, stay until they were poked or a moment, and go; returns how many came.
async fn churn(address: &Address, names: &Names, over: &AtomicBool) -> anyhow::Result<u64> {
    let mut guests = tokio::task::JoinSet::new();
    let mut came = 0;
    while !over.load(Ordering::Relaxed) {
        while (guests.len() as u64) < CHURN.0 {
            guests.spawn(visit(address.clone(), names.category(came)));
            came += 1;
        }
        if let Some(left) = guests.join_next().await {
            left??;
        }
    }
    Ok(came)
}

async fn visit(address: Address, category: String) -> anyhow::Result<()> {
    let query = format!("category={category}&position={}", rpc::head(&address).await? + 1);
    let mut events = Events::open(&address, &query).await?;
    let begin = Instant::now();
    while let Some(left) = CHURN.1.checked_sub(begin.elapsed()) {
        match tokio::time::timeout(left, events.next(|_| ())).await {
            Ok(read) => read?,
            Err(_) => break,
        }
    }
    Ok(())
}

/// The time from calling the program to its first answer from the store, with the large log in place.
pub(super) async fn start(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let large = turn.session.large().await?;
    let mut measured = Measured::default();
    let begin = large.host.restart().await?;
    large.address.authority = large.host.address.authority.clone();
    rpc::call(&large.address, &serde_json::json!(["category.get", "", {"batchSize": 1}])).await?;
    let took = begin.elapsed();
    measured.answer(took, took, 1);
    Ok(Loaded { measured, elapsed: took, ..Loaded::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_explained_by_one_of_the_disk_in_the_same_second() {
        let of = |maxima: &[f64]| maxima.iter().map(|&max_ms| Second { requests: 1, max_ms }).collect::<Vec<_>>();
        let seconds = of(&[1.0, 60.0, 80.0, 51.0]);
        assert_eq!(count(&seconds, &of(&[90.0, 70.0, 2.0])), (3.0, 2.0));
    }
}
