//! The threads on which SQLite's calls are made, because they block.

use std::cell::Cell;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};

use super::Settings;
use crate::error::{Error, Result};

thread_local! {
    /// Whether this thread is made for blocking calls.
    static BLOCKING: Cell<bool> = const { Cell::new(false) };
}

/// The threads of one backend.
pub(super) struct Threads {
    writers: Option<Runtime>,
    indexers: Option<Runtime>,
    readers: Arc<Semaphore>,
}

impl Threads {
    pub(super) fn start(settings: &Settings) -> std::io::Result<Self> {
        Ok(Self {
            writers: Some(runtime("writer", settings.writer_threads)?),
            indexers: Some(runtime("indexer", settings.writer_threads.div_ceil(2))?),
            readers: Arc::new(Semaphore::new(settings.readers)),
        })
    }

    /// Runs a future on a writer thread.
    pub(super) fn write(&self, work: BoxFuture<'static, ()>) {
        self.writers.as_ref().expect("taken only by drop").spawn(work);
    }

    /// Returns once a writer thread has taken up something new.
    pub(super) async fn beat(&self) {
        let (taken, is_taken) = oneshot::channel();
        self.write(Box::pin(async move {
            let _ = taken.send(());
        }));
        let _ = is_taken.await;
    }

    /// Runs background work on an indexer thread.
    pub(super) fn index(&self, work: impl FnOnce() + Send + 'static) {
        self.indexers.as_ref().expect("taken only by drop").spawn(async move { work() });
    }

    /// Runs a blocking call: on this thread, if it is made for that, otherwise on another one.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        if BLOCKING.get() {
            return work();
        }
        let permit = self.readers.clone().acquire_owned().await.expect("never closed");
        let outcome = tokio::task::spawn_blocking(move || {
            let outcome = work();
            drop(permit);
            outcome
        });
        outcome.await.map_err(Error::failed)?
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for runtime in [self.writers.take(), self.indexers.take()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(|| BLOCKING.set(true))
        .enable_time()
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[tokio::test]
    async fn a_beat_waits_while_every_writer_thread_is_stuck() {
        let settings = Settings { writer_threads: 2, ..Settings::default() };
        let threads = Threads::start(&settings).expect("threads");
        let stick = || {
            let (end, is_over) = channel::<()>();
            let (begun, has_begun) = oneshot::channel();
            threads.write(Box::pin(async move {
                begun.send(()).expect("the test waits");
                let _ = is_over.recv();
            }));
            (end, has_begun)
        };
        let (first, begun) = stick();
        begun.await.expect("it runs");
        threads.beat().await;
        let (second, begun) = stick();
        begun.await.expect("it runs");
        let mut beat = std::pin::pin!(threads.beat());
        assert!(futures_util::poll!(beat.as_mut()).is_pending());
        tokio::task::yield_now().await;
        assert!(futures_util::poll!(beat.as_mut()).is_pending());
        drop(second);
        beat.await;
        drop(first);
    }
}
