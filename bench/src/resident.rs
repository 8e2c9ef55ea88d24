//! A process' memory, second by second, while a round runs.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::host::resident;

/// Looks once a second, until it is ended or dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    task: JoinHandle<Vec<f64>>,
    stop: DropGuard,
}

impl Watch {
    /// Begins to look at the process after a while; without a process it sees nothing.
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
        seen.extend(pid.and_then(resident));
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_process_is_looked_at_once_a_second() {
        let watch = Watch::begin(Some(std::process::id()), Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(4_500)).await;
        assert_eq!(watch.end().await.len(), 3);
        assert!(Watch::begin(None, Duration::ZERO).end().await.is_empty());
    }
}
