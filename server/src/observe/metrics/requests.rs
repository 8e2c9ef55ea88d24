//! What was counted of finished requests: by method and status, how long they took, and why they were refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::ErrorCode;
use eventodb_store::figures::{Counter, Distribution, Histogram, LATENCIES};
use http::StatusCode;

use crate::observe::method::Method;

/// The statuses that replies have. A test compares them with those of the error codes.
const STATUSES: [(u16, &str); 15] = [
    (200, "200"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (408, "408"),
    (409, "409"),
    (413, "413"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
    (507, "507"),
];
const OTHER: &str = "other";

/// Why a request was shed, although another one like it would be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Earlier appends wait for too long, or there is no room in the queue.
    Queue,
    /// The memory budget, or a share of it, is used up.
    Memory,
    /// There are as many subscriptions, waiting calls or imports at once as may be.
    Places,
    /// There were as many requests of an address or a token in a second as may be, or as many wrong tokens.
    Rate,
}

impl Shed {
    const ALL: [(Self, &str); 4] =
        [(Self::Queue, "queue"), (Self::Memory, "memory"), (Self::Places, "places"), (Self::Rate, "rate")];
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    /// None if it succeeded.
    pub(crate) code: Option<ErrorCode>,
    pub(crate) shed: Option<Shed>,
    /// From its head to the head of its reply.
    pub(crate) duration: Duration,
    /// How long it asked to wait at most.
    pub(crate) wait: Duration,
}

impl Outcome {
    /// The duration without what the request asked to wait. One that waited for less has none.
    pub(crate) fn own_duration(&self) -> Duration {
        self.duration.saturating_sub(self.wait)
    }
}

/// What is counted of a finished request.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) method: Method,
    pub(crate) namespace: Option<Arc<str>>,
    pub(crate) started: Instant,
    pub(crate) outcome: Outcome,
    pub(crate) is_slow: bool,
}

impl Ended {
    /// When it ended, which is known without a look at the clock.
    pub(crate) fn at(&self) -> Instant {
        self.started + self.outcome.duration
    }
}

/// Counts all finished requests. Its size depends on the number of methods alone.
pub(crate) struct Requests {
    methods: Box<[OfMethod]>,
    /// By the number of the code.
    errors: Box<[Counter]>,
    shed: [Counter; Shed::ALL.len()],
}

struct OfMethod {
    name: &'static str,
    duration: Histogram,
    statuses: [Counter; STATUSES.len() + 1],
}

impl Requests {
    /// For methods of these names, which [`Method`] has the numbers of.
    pub(crate) fn new(names: &[&'static str]) -> Self {
        let of =
            |name: &&'static str| OfMethod { name, duration: Histogram::new(LATENCIES), statuses: Default::default() };
        Self {
            methods: names.iter().map(of).collect(),
            errors: ErrorCode::ALL.iter().map(|_| Counter::default()).collect(),
            shed: Default::default(),
        }
    }

    /// Counts requests.
    pub(crate) fn add(&self, ended: &[Ended]) {
        ended.iter().for_each(|ended| self.count(ended.method, &ended.outcome));
    }

    fn count(&self, method: Method, outcome: &Outcome) {
        let of = &self.methods[method.number];
        of.duration.observe_duration(outcome.own_duration());
        let status = outcome.status.as_u16();
        let at = STATUSES.iter().position(|(known, _)| *known == status).unwrap_or(STATUSES.len());
        of.statuses[at].increment();
        if let Some(code) = outcome.code {
            self.errors[code as usize].increment();
        }
        if let Some(shed) = outcome.shed {
            self.shed[shed as usize].increment();
        }
    }

    /// How long the requests of each method took that had any.
    pub(crate) fn durations(&self) -> impl Iterator<Item = (&'static str, Distribution)> {
        let all = self.methods.iter().map(|of| (of.name, of.duration.distribution()));
        all.filter(|(_, duration)| duration.count() > 0)
    }

    /// How many requests of each method ended with each status, where any did.
    pub(crate) fn statuses(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let all = self.methods.iter().flat_map(|of| {
            let statuses = STATUSES.iter().map(|(_, status)| *status).chain([OTHER]);
            statuses.zip(&of.statuses).map(|(status, count)| (of.name, status, count.get()))
        });
        all.filter(|(.., count)| *count > 0)
    }

    /// How many requests ended with each code.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ErrorCode::ALL.iter().zip(&self.errors).map(|(code, count)| (code.as_str(), count.get()))
    }

    /// How many requests were shed for each reason.
    pub(crate) fn shed(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Shed::ALL.iter().zip(&self.shed).map(|((_, reason), count)| (*reason, count.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_each_code_has_a_count_of_its_own() {
        for code in ErrorCode::ALL.iter().filter(|code| code.status() != 0) {
            assert!(STATUSES.iter().any(|(status, _)| *status == code.status()), "{code}");
        }
        assert!(STATUSES.iter().all(|(status, name)| status.to_string() == *name));
    }

    #[test]
    fn codes_and_reasons_stand_at_their_numbers() {
        assert!(ErrorCode::ALL.iter().enumerate().all(|(at, code)| *code as usize == at));
        assert!(Shed::ALL.iter().enumerate().all(|(at, (reason, _))| *reason as usize == at));
    }
}
