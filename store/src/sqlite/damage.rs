//! Damaged messages that were found. Each is logged once, and known until the server stops.

use std::collections::BTreeSet;

use parking_lot::Mutex;

use super::registry::Registry;
use crate::degraded::Degraded;
use crate::model::Incarnation;

/// Number of messages of a log that are logged one by one.
const TELL_MOST: usize = 1_000;

/// The damaged messages of all namespaces that were found.
#[derive(Debug, Default)]
pub(super) struct Damage {
    met: Mutex<BTreeSet<(Incarnation, i64)>>,
}

impl Damage {
    /// A damaged message was found at this global position.
    pub(super) fn met(&self, registry: &Registry, incarnation: Incarnation, global_position: i64) {
        let told = {
            let mut met = self.met.lock();
            if met.len() > TELL_MOST || !met.insert((incarnation, global_position)) {
                return;
            }
            met.len()
        };
        if told > TELL_MOST {
            tracing::error!("more stored messages are damaged than are told one by one: `eventodb verify` names all");
            return;
        }
        let namespace = registry.name(incarnation).ok().flatten().unwrap_or_default();
        tracing::error!(
            namespace,
            global_position,
            "a stored message is damaged and is not served: restore it from a backup, or give it up with \
             `eventodb repair --give-up`"
        );
    }

    /// Whether a damaged message of this log was found before. Then the next one is not read again and again: it is
    /// hardly a page that cannot be read for a moment, and a read behind thousands of them must not wait at each.
    pub(super) fn is_in(&self, incarnation: Incarnation) -> bool {
        let met = self.met.lock();
        met.len() > TELL_MOST || met.range((incarnation, i64::MIN)..=(incarnation, i64::MAX)).next().is_some()
    }

    /// The incarnation is gone.
    pub(super) fn forget(&self, incarnation: Incarnation) {
        self.met.lock().retain(|(of, _)| *of != incarnation);
    }

    /// The reason that probes report.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        let message = "a stored message is damaged and is not served: the server's log says which";
        (!self.met.lock().is_empty()).then(|| Degraded::new("DATA_DAMAGED", message))
    }
}
