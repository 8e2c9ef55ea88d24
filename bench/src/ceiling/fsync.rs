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

/// Appends for so long to a file in `directory`, which is removed again.
///
/// # Errors
/// The file cannot be written.
pub(crate) async fn run(directory: &Path, duration: Duration, gauge: Arc<Gauge>) -> anyhow::Result<Loaded> {
    std::fs::create_dir_all(directory)?;
    let file = tempfile::tempfile_in(directory).with_context(|| format!("cannot write in {}", directory.display()))?;
    tokio::task::spawn_blocking(move || append(file, duration, &gauge)).await.context("the appender panicked")?
}

fn append(mut file: File, duration: Duration, gauge: &Gauge) -> anyhow::Result<Loaded> {
    let mut measured = Measured::default();
    let begin = Instant::now();
    while begin.elapsed() < duration && !gauge.is_stopped() {
        let sent = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        measured.answer(sent.elapsed(), begin.elapsed(), 1);
    }
    Ok(Loaded { measured, elapsed: begin.elapsed() })
}
