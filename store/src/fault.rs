//! Failures of background work, which is tried again: they are logged now and then, and known until the work succeeds.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::seldom::is_database_lost;

/// How often a failure that lasts is told again.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Whether one kind of work fails at the moment.
#[derive(Debug)]
pub(crate) struct Fault {
    work: &'static str,
    /// While there is a failure.
    failing: Mutex<Option<Failing>>,
}

#[derive(Debug, Default)]
struct Failing {
    /// When it was last told, if it was. It is not while the database is lost, because that is told then.
    told: Option<Instant>,
}

impl Fault {
    /// `work` names the work in the server's log.
    pub(crate) fn of(work: &'static str) -> Self {
        Self { work, failing: Mutex::default() }
    }

    /// The work failed; for this incarnation, if it is the work of one.
    pub(crate) fn failed(&self, incarnation: impl Into<Option<i64>>, error: &dyn std::fmt::Display) {
        let mut failing = self.failing.lock();
        let Failing { told } = failing.get_or_insert_default();
        if is_database_lost() || told.is_some_and(|told| told.elapsed() < TELL_AGAIN) {
            return;
        }
        *told = Some(Instant::now());
        tracing::error!(incarnation = incarnation.into(), %error, "{} failed and will be tried again", self.work);
    }

    /// The work failed, most likely because the database was lost at this moment: that is told by others, and this only if
    /// the work fails once more.
    pub(crate) fn failed_with_the_database(&self, incarnation: impl Into<Option<i64>>, error: &dyn std::fmt::Display) {
        if self.is_there() {
            self.failed(incarnation, error);
        } else {
            self.failing.lock().get_or_insert_default();
        }
    }

    /// The work succeeded.
    pub(crate) fn mended(&self, incarnation: impl Into<Option<i64>>) {
        if self.failing.lock().take().is_some_and(|failing| failing.told.is_some()) {
            tracing::info!(incarnation = incarnation.into(), "{} succeeds again", self.work);
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.failing.lock().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_with_the_database_is_told_the_second_time() {
        let fault = Fault::of("work");
        let told = || fault.failing.lock().as_ref().map(|failing| failing.told.is_some());
        fault.failed_with_the_database(None, &"gone");
        assert_eq!(told(), Some(false));
        fault.failed_with_the_database(None, &"gone");
        assert_eq!(told(), Some(true));
        fault.mended(None);
        assert_eq!(told(), None);
    }
}
