//! Failures of background work, which is tried again: they are logged now and then, and known until the work succeeds.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often a failure that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Whether one kind of work fails at the moment.
#[derive(Debug)]
pub(crate) struct Fault {
    work: &'static str,
    /// When the failure was last told, while there is one.
    told: Mutex<Option<Instant>>,
}

impl Fault {
    /// `work` names the work in the server's log.
    pub(crate) fn of(work: &'static str) -> Self {
        Self { work, told: Mutex::default() }
    }

    /// The work failed; for this incarnation, if it is the work of one.
    pub(crate) fn failed(&self, incarnation: impl Into<Option<i64>>, error: &dyn std::fmt::Display) {
        let mut told = self.told.lock();
        if told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return;
        }
        *told = Some(Instant::now());
        tracing::error!(incarnation = incarnation.into(), %error, "{} failed and will be tried again", self.work);
    }

    /// The work succeeded.
    pub(crate) fn mended(&self, incarnation: impl Into<Option<i64>>) {
        if self.told.lock().take().is_some() {
            tracing::info!(incarnation = incarnation.into(), "{} succeeds again", self.work);
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.told.lock().is_some()
    }
}
