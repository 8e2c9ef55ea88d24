//! One at a time for each name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Work that is done for one name at a time, while other names neither wait for it nor for each other.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// Those that are held or waited for, and perhaps some that are not any more.
    locks: Mutex<HashMap<Arc<str>, Weak<Lock>>>,
}

impl Turns {
    /// Waits until nobody works for this name; nobody does while the guard lives.
    pub(crate) async fn turn(&self, name: &Arc<str>) -> OwnedMutexGuard<()> {
        let lock = self.lock(name);
        lock.lock_owned().await
    }

    fn lock(&self, name: &Arc<str>) -> Arc<Lock> {
        let mut locks = self.locks.lock();
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::new(Lock::default());
        locks.insert(name.clone(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::FutureExt as _;

    use super::*;

    #[test]
    fn work_that_hangs_for_one_name_holds_up_no_other() {
        let turns = Turns::default();
        let hanging: Arc<str> = "hanging".into();
        let held = turns.turn(&hanging).now_or_never().expect("nobody has it");
        for other in 0..1000 {
            let other: Arc<str> = format!("other-{other}").into();
            assert!(turns.turn(&other).now_or_never().is_some(), "{other}");
        }
        assert!(turns.turn(&hanging).now_or_never().is_none());
        drop(held);
        assert!(turns.turn(&hanging).now_or_never().is_some());
        assert!(turns.locks.lock().len() <= 2, "names that nobody works for are forgotten");
    }
}
