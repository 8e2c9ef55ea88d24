//! Warning of logs whose last time lies ahead of the clock. A log's times never go back, so that each new message gets
//! that time until the clock has caught up.
//!
//! Each log is looked at after the start, before its namespace is used, and again every hour.

use std::collections::{HashMap, HashSet};

use eventodb_protocol::Timestamp;
use parking_lot::Mutex;

use crate::error::{Chain, Error, Result};
use crate::model::Incarnation;
use crate::storage::Backend;

/// Microseconds by which a log's last time may lie ahead because the clocks of two machines differ.
const CLOCKS_DIFFER: i64 = 60_000_000;

/// Whether a last time lies so far ahead of the clock that a difference of clocks does not explain it.
pub(crate) fn is_ahead(time: Timestamp) -> bool {
    time.as_micros() > Timestamp::now().as_micros().saturating_add(CLOCKS_DIFFER)
}

/// Says that a namespace's last time lies ahead of the clock.
pub(crate) fn warn_of(namespace: &str, time: Timestamp) {
    let time = time.to_string();
    tracing::warn!(namespace, time, "the log's last time lies ahead of the clock: new messages get that time");
}

/// The last times that were found ahead of the clock.
#[derive(Debug, Default)]
pub(crate) struct Leapt(Mutex<HashMap<Incarnation, Timestamp>>);

impl Leapt {
    /// Looks at the log of each living namespace, and says which are ahead.
    ///
    /// # Errors
    /// The registry cannot be read. A log that cannot be read is looked at the next time.
    pub(crate) async fn look(&self, backend: &dyn Backend) -> Result<()> {
        let living = backend.namespaces().await?;
        let numbers: HashSet<Incarnation> = living.iter().map(|namespace| namespace.incarnation).collect();
        self.0.lock().retain(|incarnation, _| numbers.contains(incarnation));
        for namespace in living {
            match backend.last_time(namespace.incarnation).await {
                Ok(time) if is_ahead(time) => {
                    warn_of(&namespace.name, time);
                    self.0.lock().insert(namespace.incarnation, time);
                }
                Ok(_) | Err(Error::Closed) => self.forget(namespace.incarnation),
                Err(error) => {
                    tracing::debug!(namespace = %namespace.name, error = %Chain(&error), "cannot read a log's last time")
                }
            }
        }
        Ok(())
    }

    /// Whether there still is one.
    pub(crate) fn is_any(&self) -> bool {
        self.0.lock().values().any(|time| is_ahead(*time))
    }

    /// The incarnation is gone.
    pub(crate) fn forget(&self, incarnation: Incarnation) {
        self.0.lock().remove(&incarnation);
    }
}
