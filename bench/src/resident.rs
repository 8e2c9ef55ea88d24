//! A process' memory, second by second, while a round runs.

use std::path::Path;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

const MIB: f64 = 1_048_576.0;

/// Looks once a second, until it is asked for what it saw or dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    task: JoinHandle<Vec<f64>>,
    stop: DropGuard,
}

impl Watch {
    /// Begins to look at the process after a while; where there is none it sees nothing.
    pub(crate) fn begin(pid: Option<u32>, after: Duration) -> Self {
        let stop = CancellationToken::new();
        let task = tokio::spawn(look(pid, after, stop.clone()));
        Self { task, stop: stop.drop_guard() }
    }

    /// What it saw, in MiB.
    pub(crate) async fn end(self) -> Vec<f64> {
        drop(self.stop);
        self.task.await.unwrap_or_default()
    }
}

async fn look(pid: Option<u32>, after: Duration, stop: CancellationToken) -> Vec<f64> {
    let mut seen = Vec::new();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + after, Duration::from_secs(1));
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        seen.extend(pid.and_then(resident).map(|bytes| bytes as f64 / MIB));
    }
    seen
}

/// Memory of a process that is in RAM, in bytes; `None` where the system does not tell.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_memory() {
        assert!(resident(std::process::id()).is_some_and(|bytes| bytes > 1 << 20));
        assert!(resident(0).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_is_looked_at_once_a_second() {
        let watch = Watch::begin(Some(std::process::id()), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        assert_eq!(watch.end().await.len(), 3);
        assert!(Watch::begin(None, Duration::ZERO).end().await.is_empty());
    }
}
