//! Giving the disk a large write in small steps.
//!
//! An index batch leaves its pages in the system's memory, and so does a checkpoint. The sync at its end would give the
//! disk tens of megabytes at once, and an append that comes then would wait behind all of them. Therefore a thread
//! beside the work syncs the file again and again, so that each sync has little to write.

use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Does work that writes to a file, which is synced meanwhile, with a `pause` from one sync to the next.
///
/// A caller that needs the file on the disk syncs it afterwards all the same. That sync reports an error of the syncs
/// here, because the system reports an error of writing back to each open file (Linux, fsync(2)).
pub(super) fn trickle<T>(file: Option<&File>, pause: Duration, work: impl FnOnce() -> T) -> T {
    let Some(file) = file else { return work() };
    thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let sync = move || {
            while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(pause) {
                if file.sync_data().is_err() {
                    return;
                }
            }
        };
        // Without the thread the work is done all the same, and appends wait longer.
        let _ = thread::Builder::new().name("trickle".to_owned()).spawn_scoped(scope, sync);
        let outcome = work();
        drop(over);
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done_with_a_file_and_without() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(trickle(Some(&file), Duration::ZERO, || 1), 1);
        assert_eq!(trickle(None, Duration::ZERO, || 2), 2);
    }

    #[test]
    fn the_thread_ends_with_work_that_panics() {
        let file = tempfile::tempfile().unwrap();
        let work = || trickle(Some(&file), Duration::from_hours(1), || panic!("as planned"));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
    }
}
