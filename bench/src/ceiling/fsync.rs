//! The ceiling of durability: appending 4 KiB to a file and waiting until the disk has it.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::load::Loaded;
use crate::measure::{Gauge, Measured};

const BLOCK: [u8; 4096] = [0x65; 4096];

/// Appends to a file in `directory`, which is removed again. With an `interval` it pauses between two appends, so that it
/// watches the disk beside another load without slowing it.
pub(crate) async fn run(
    directory: &Path,
    duration: Duration,
    interval: Option<Duration>,
    gauge: Arc<Gauge>,
) -> anyhow::Result<Loaded> {
    std::fs::create_dir_all(directory)?;
    let file = tempfile::tempfile_in(directory).with_context(|| format!("cannot write in {}", directory.display()))?;
    let work = move || append(file, duration, interval.unwrap_or_default(), &gauge);
    tokio::task::spawn_blocking(work).await.context("the appender panicked")?
}

fn append(mut file: File, duration: Duration, interval: Duration, gauge: &Gauge) -> anyhow::Result<Loaded> {
    let mut measured = Measured::default();
    let begin = Instant::now();
    let mut due = begin;
    while begin.elapsed() < duration && !gauge.is_stopped() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let sent = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        let (latency, since) = (sent.elapsed(), begin.elapsed());
        measured.answer(latency, since, 1);
        // A write that the disk held up may have ended in an earlier second than the sync.
        measured.lasted(latency, since);
        due = sent + interval;
    }
    Ok(Loaded { measured, elapsed: begin.elapsed(), ..Loaded::default() })
}
