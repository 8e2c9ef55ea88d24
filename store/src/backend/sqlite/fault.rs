//! Work beside the calls that failed and is tried again: what of it is told, and for how long it is known.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often a failure that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Whether one kind of work fails at the moment.
#[derive(Debug)]
pub(super) struct Fault {
    work: &'static str,
    /// When the failure was last told, while there is one.
    told: Mutex<Option<Instant>>,
}

impl Fault {
    /// `work` names the work in the server's log.
    pub(super) fn of(work: &'static str) -> Self {
        Self { work, told: Mutex::default() }
    }

    /// The work failed.
    pub(super) fn failed(&self, incarnation: i64, error: &dyn std::fmt::Display) {
        let mut told = self.told.lock();
        if told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return;
        }
        *told = Some(Instant::now());
        tracing::error!(incarnation, %error, "{} failed and will be tried again", self.work);
    }

    /// The work succeeded.
    pub(super) fn mended(&self, incarnation: i64) {
        if self.told.lock().take().is_some() {
            tracing::info!(incarnation, "{} succeeds again", self.work);
        }
    }

    pub(super) fn is_there(&self) -> bool {
        self.told.lock().is_some()
    }
}
