//! One lock for each name.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Lock = tokio::sync::Mutex<()>;

/// Locks by name: work for one name is done one at a time, and never waits for work for another.
#[derive(Debug, Default)]
pub(crate) struct NameLocks {
    /// The locks that are held or waited for, and perhaps some that are not any more.
    locks: Mutex<HashMap<Arc<str>, Weak<Lock>>>,
}

impl NameLocks {
    /// Waits until nobody works for this name; the guard keeps others from it.
    pub(crate) async fn lock(&self, name: &Arc<str>) -> OwnedMutexGuard<()> {
        let lock = self.lock_of(name);
        lock.lock_owned().await
    }

    fn lock_of(&self, name: &Arc<str>) -> Arc<Lock> {
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
        let locks = NameLocks::default();
        let hanging: Arc<str> = "hanging".into();
        let held = locks.lock(&hanging).now_or_never().expect("nobody has it");
        for other in 0..1000 {
            let other: Arc<str> = format!("other-{other}").into();
            assert!(locks.lock(&other).now_or_never().is_some(), "{other}");
        }
        assert!(locks.lock(&hanging).now_or_never().is_none());
        drop(held);
        assert!(locks.lock(&hanging).now_or_never().is_some());
        assert!(locks.locks.lock().len() <= 2, "names that nobody works for are forgotten");
    }
}
