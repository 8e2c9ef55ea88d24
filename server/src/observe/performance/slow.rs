//! Slow requests: the last ones, and the slowest ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::performance::SlowRequest;
use eventodb_protocol::{ErrorCode, Timestamp};

use crate::http::RequestId;
use crate::observe::metrics::Outcome;
use crate::observe::record::Record;

/// Recent ones that are kept.
const RECENT: usize = 100;
/// Slowest ones that are kept.
const TOP: usize = 50;

/// The slow requests that are kept.
#[derive(Default)]
pub(super) struct SlowRequests {
    /// The latest last.
    recent: VecDeque<Slow>,
    /// The slowest first.
    top: Vec<Slow>,
}

#[derive(Clone, Debug)]
struct Slow {
    time: Timestamp,
    method: &'static str,
    namespace: Option<Arc<str>>,
    duration: Duration,
    wait: Duration,
    /// Without the time that it asked to wait.
    own: Duration,
    status: u16,
    code: Option<ErrorCode>,
    id: RequestId,
}

impl SlowRequests {
    /// Adds a request that ends now.
    pub(super) fn add(&mut self, record: &Record, outcome: &Outcome) {
        let own = outcome.own_duration();
        let slow = Slow {
            time: Timestamp::now(),
            method: record.method.name,
            namespace: record.namespace.clone(),
            duration: outcome.duration,
            wait: outcome.wait,
            own,
            status: outcome.status.as_u16(),
            code: outcome.code,
            id: record.id.clone(),
        };
        let at = self.top.partition_point(|other| other.own >= own);
        if at < TOP {
            self.top.truncate(TOP - 1);
            self.top.insert(at, slow.clone());
        }
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(slow);
    }

    /// The last ones, the latest first.
    pub(super) fn recent(&self) -> Vec<SlowRequest> {
        self.recent.iter().rev().map(Slow::told).collect()
    }

    /// The slowest ones, the slowest first.
    pub(super) fn top(&self) -> Vec<SlowRequest> {
        self.top.iter().map(Slow::told).collect()
    }

    /// How much memory it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let kept = self.recent.iter().chain(&self.top);
        let texts = kept.map(|slow| slow.namespace.as_ref().map_or(0, |name| name.len()) + slow.id.to_string().len());
        (self.recent.capacity() + self.top.capacity()) * size_of::<Slow>() + texts.sum::<usize>()
    }
}

impl Slow {
    fn told(&self) -> SlowRequest {
        let millis = |duration: Duration| duration.as_micros() as f64 / 1e3;
        SlowRequest {
            time: self.time,
            method: self.method.to_owned(),
            namespace: self.namespace.as_deref().map(str::to_owned),
            duration_ms: millis(self.duration),
            wait_ms: millis(self.wait),
            status: self.status,
            code: self.code.map(|code| code.as_str().to_owned()),
            request_id: self.id.to_string(),
        }
    }
}
