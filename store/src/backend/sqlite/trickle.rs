//! Having the disk take a large write a little at a time.
//!
//! An index batch leaves its pages with the system, and so does a checkpoint; the sync that ends each of them would
//! give the disk tens of megabytes at once, and an append that comes then waits behind all of it. A thread beside them
//! syncs what is there every few milliseconds, so that no sync finds much.

use std::fs::File;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// From one sync to the next.
const PAUSE: Duration = Duration::from_millis(2);

/// Does work that writes to a file, which is synced meanwhile. Whoever needs it to be on the disk syncs it afterwards
/// all the same: here a failure has no consequence.
pub(super) fn trickle<T>(file: Option<&File>, work: impl FnOnce() -> T) -> T {
    let Some(file) = file else { return work() };
    thread::scope(|scope| {
        let (over, is_over) = channel::<()>();
        let sync = move || {
            while let Err(RecvTimeoutError::Timeout) = is_over.recv_timeout(PAUSE) {
                if file.sync_data().is_err() {
                    return;
                }
            }
        };
        // Without the thread it is only slower for others.
        let _ = thread::Builder::new().name("trickle".to_owned()).spawn_scoped(scope, sync);
        let outcome = work();
        drop(over);
        outcome
    })
}
