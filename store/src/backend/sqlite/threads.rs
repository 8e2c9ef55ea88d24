//! Where SQLite's calls, which block, are made.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::runtime::{Builder, Handle, Runtime, RuntimeFlavor};
use tokio::sync::Semaphore;

use super::Settings;
use crate::error::{Error, Result};

thread_local! {
    /// Whether this thread is made for blocking calls, or lent for one.
    static BLOCKING: Cell<bool> = const { Cell::new(false) };
}

/// The threads of one backend.
pub(super) struct Threads {
    writers: Option<Runtime>,
    indexers: Option<Runtime>,
    readers: Arc<Semaphore>,
    /// Turns of all namespaces on writer threads, those that wait included.
    turns: Arc<AtomicUsize>,
    /// Whether a turn runs on a thread that is not one of these.
    lent: AtomicBool,
}

impl Threads {
    pub(super) fn start(settings: &Settings) -> std::io::Result<Self> {
        Ok(Self {
            writers: Some(runtime("writer", settings.writer_threads)?),
            indexers: Some(runtime("indexer", settings.writer_threads.div_ceil(2))?),
            readers: Arc::new(Semaphore::new(settings.readers)),
            turns: Arc::default(),
            lent: AtomicBool::new(false),
        })
    }

    /// Runs a sequencer's turn on a writer thread.
    pub(super) fn write(&self, turn: BoxFuture<'static, ()>) {
        let counted = Counted::new(&self.turns);
        self.writers().spawn(async move {
            let _counted = counted;
            turn.await;
        });
    }

    /// Runs what goes on as long as the backend on a writer thread.
    pub(super) fn keep(&self, house: impl Future<Output = ()> + Send + 'static) {
        self.writers().spawn(house);
    }

    fn writers(&self) -> &Runtime {
        self.writers.as_ref().expect("taken only by drop")
    }

    /// Runs a sequencer's turn on this thread up to where it first waits, if the thread can be spared, and the
    /// rest of it on a writer thread. That saves the two wake-ups by which it would get there and back.
    pub(super) fn write_here(&self, mut turn: BoxFuture<'static, ()>) {
        // Where others commit, too, the server's threads have more to do than to wait for a disk.
        if self.turns.load(SeqCst) > 0 {
            return self.write(turn);
        }
        let Some(lent) = Lent::take(&self.lent) else { return self.write(turn) };
        // Its clocks are those of the writers, who may have to go on with it.
        let writers = self.writers().enter();
        // As in a task, a panic ends the turn and not the one that started it.
        let polled = catch_unwind(AssertUnwindSafe(|| (&mut turn).now_or_never()));
        drop((writers, lent));
        if let Ok(None) = polled {
            // There it is polled anew: nothing that would have woken it is lost.
            self.write(turn);
        }
    }

    /// Runs background work on an indexer thread.
    pub(super) fn index(&self, work: impl FnOnce() + Send + 'static) {
        self.indexers.as_ref().expect("taken only by drop").spawn(async move { work() });
    }

    /// Runs a blocking call: here, where this is a thread made for it, else on another one.
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

/// One of so many, until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// A thread of the server's runtime, lent for blocking calls until this is dropped.
struct Lent<'a>(&'a AtomicBool);

impl<'a> Lent<'a> {
    /// Takes this thread, if its runtime has others to do the rest of its work meanwhile, and none of them is lent.
    fn take(lent: &'a AtomicBool) -> Option<Self> {
        let runtime = Handle::try_current().ok()?;
        let has_others = runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1;
        if BLOCKING.get() || !has_others || lent.swap(true, SeqCst) {
            return None;
        }
        BLOCKING.set(true);
        Some(Self(lent))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        BLOCKING.set(false);
        self.0.store(false, SeqCst);
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
    use std::thread::{self, ThreadId};

    use tokio::sync::oneshot;
    use tokio::task::yield_now;

    use super::*;

    fn start() -> Threads {
        Threads::start(&Settings::default()).expect("threads start")
    }

    /// The threads that a turn ran on, before and after it first waited.
    async fn ran_on(threads: &Threads) -> [ThreadId; 2] {
        let (told, ran_on) = oneshot::channel();
        threads.write_here(Box::pin(async move {
            let first = thread::current().id();
            assert!(BLOCKING.get(), "what blocks is called in place");
            yield_now().await;
            let _ = told.send([first, thread::current().id()]);
        }));
        let ran_on = ran_on.await.expect("the turn goes on");
        while threads.turns.load(SeqCst) > 0 {
            yield_now().await;
        }
        ran_on
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_lonely_turn_begins_where_it_is_scheduled_and_waits_elsewhere() {
        let threads = start();
        let here = thread::current().id();
        let [first, second] = ran_on(&threads).await;
        assert_eq!(first, here);
        assert_ne!(second, here);
        assert!(!BLOCKING.get() && !threads.lent.load(SeqCst));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_thread_at_a_time_is_lent() {
        let threads = start();
        let lent = Lent::take(&threads.lent).expect("it can be spared");
        assert_ne!(ran_on(&threads).await[0], thread::current().id());
        drop(lent);
        assert_eq!(ran_on(&threads).await[0], thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_thread_is_lent_while_another_turn_runs() {
        let threads = start();
        let (end, other) = oneshot::channel::<()>();
        threads.write(Box::pin(async move {
            let _ = other.await;
        }));
        let (told, is_writer) = oneshot::channel();
        threads.write_here(Box::pin(async move {
            let _ = told.send(thread::current().name() == Some("writer"));
        }));
        assert!(is_writer.await.expect("the turn runs"), "on a writer thread");
        drop(end);
        while threads.turns.load(SeqCst) > 0 {
            yield_now().await;
        }
        assert_eq!(ran_on(&threads).await[0], thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_worker_is_not_lent() {
        assert_ne!(ran_on(&start()).await[0], thread::current().id());
    }

    #[tokio::test]
    async fn the_only_thread_is_not_lent() {
        assert_ne!(ran_on(&start()).await[0], thread::current().id());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_panic_ends_the_turn_and_gives_the_thread_back() {
        let threads = start();
        let (told, answer) = oneshot::channel::<()>();
        threads.write_here(Box::pin(async move {
            let _told = told;
            panic!("as a turn of the test");
        }));
        assert!(answer.await.is_err(), "who waits for the turn learns that it is gone");
        assert!(!BLOCKING.get() && !threads.lent.load(SeqCst));
        assert_eq!(ran_on(&threads).await[0], thread::current().id());
    }
}
