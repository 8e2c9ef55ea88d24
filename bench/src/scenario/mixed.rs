//! A day's work at once: writes at a rate, category tails, subscribers, and reads of old data.

use std::sync::Arc;

use super::Turn;
use super::listen::beside;
use super::read::{Pages, Read};
use crate::load::{self, Loaded, Plan};
use crate::rpc;

const WRITERS: u64 = 64;
/// Reads of old data a second.
const READS: f64 = 200.0;
/// Readers that follow a category.
const TAILS: u64 = 4;
/// Connections that read old data.
const READERS: u64 = 16;

/// Runs all parts. The writes are measured; figures of the other parts are readings.
pub(super) async fn run(turn: Turn<'_>) -> anyhow::Result<Loaded> {
    let filled = turn.session.filled().await?;
    let (address, names, gauge) = (turn.main(), turn.names(), turn.gauge());
    let head = rpc::head(&address).await?;
    let (writes, reads) = (turn.writers(&address, 0..WRITERS), turn.readers(&address, filled, READERS));
    let tails = (0..TAILS).map(|n| Pages::follow(&address, &names.category(n), head)).collect();
    let query = |n| format!("category={}&position={}", names.category(n), head + 1);
    let asked = (0..turn.subscribers()).map(|n| (address.clone(), query(n))).collect();
    let tailing = Plan { rate: None, least: 0, ..turn.plan.clone() };
    let reading = Plan { rate: Some(READS), ..tailing.clone() };
    let loads = async {
        tokio::try_join!(
            turn.load(&address, writes),
            load::run::<Pages>(&address, tailing, tails, Arc::clone(&gauge)),
            load::run::<Read>(&address, reading, reads, Arc::clone(&gauge)),
        )
    };
    let (poked, (mut written, tailed, read)) = beside(asked, Arc::default(), &gauge, loads).await?;
    written.readings = [
        ("read_p99_ms", read.ms_at(0.99)),
        ("reads_s", read.pace(read.measured.latencies.len())),
        ("tail_messages_s", tailed.pace(tailed.measured.messages)),
        ("pokes_s", poked.pace(poked.measured.messages)),
    ]
    .into();
    written.measured.fail(tailed.measured);
    written.measured.fail(read.measured);
    Ok(written)
}
