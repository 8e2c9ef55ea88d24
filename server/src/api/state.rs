//! What every request can reach.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Token};
use eventodb_store::EventStore;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::appends::Appends;
use crate::api::departure::Departures;
use crate::api::errors::Failure;
use crate::api::group_samples::GroupSamples;
use crate::api::methods;
use crate::api::places::{Place, Places};
use crate::api::rates::Rates;
use crate::config::{Config, Mode};
use crate::http::{Budget, Server, Watch};
use crate::live::Live;
use crate::observe::{Finished, Labels, RequestLog, Spans, Totals};

/// The parts that all connections share.
pub(crate) struct AppState {
    pub(crate) store: Arc<EventStore>,
    pub(crate) config: Config,
    /// All connections.
    pub(crate) watch: Arc<Watch>,
    /// The memory of what waits for clients.
    pub(crate) budget: Arc<Budget>,
    /// The settings that may change.
    pub(crate) live: Arc<Live>,
    /// The bounds on requests a second, as they were when they were last looked at.
    rates: ArcSwap<Rates>,
    /// The bounds on what stays.
    pub(crate) places: Places,
    /// The appends that came in.
    pub(crate) appends: Arc<Appends>,
    /// What is counted of requests.
    pub(crate) finished: Finished,
    /// How groups stand, for the metrics.
    pub(crate) group_samples: GroupSamples,
    /// Which namespaces have series of their own.
    pub(crate) labels: Labels,
    /// The request log.
    pub(crate) log: Arc<RequestLog>,
    /// Administrative acts that are under way.
    pub(crate) acts: TaskTracker,
    /// Takes the spans of calls.
    pub(crate) spans: Spans,
    /// Cancelled when the server closes its socket: waiting reads end.
    pub(crate) stopping: CancellationToken,
    /// How subscriptions end then.
    pub(crate) departures: Arc<Departures>,
    /// In test mode: the token that replies show to callers without one.
    pub(crate) default_token: Option<HeaderValue>,
    /// In test mode: the living namespaces that a use created.
    pub(crate) used: Used,
}

impl AppState {
    pub(crate) fn new(
        store: Arc<EventStore>,
        config: Config,
        live: Arc<Live>,
        log: Arc<RequestLog>,
        server: &Server,
    ) -> Self {
        let used = Used::new(match config.mode {
            Mode::Production => 0,
            Mode::Test { namespaces } => namespaces,
        });
        let default_token = match &config.mode {
            Mode::Production => None,
            // Never the token of `--token`: every caller may see this one, and must not learn that one.
            Mode::Test { .. } => {
                let token = Token::generate(DEFAULT_NAMESPACE);
                Some(HeaderValue::from_str(token.as_str()).expect("a token is visible ASCII"))
            }
        };
        Self {
            watch: Arc::clone(server.watch()),
            budget: Arc::clone(server.budget()),
            stopping: server.stopping().clone(),
            rates: ArcSwap::from_pointee(Rates::new(live.now().rates)),
            live,
            places: Places::new(config.bounds.imports),
            appends: Arc::default(),
            acts: server.acts().clone(),
            group_samples: GroupSamples::default(),
            labels: Labels::default(),
            finished: Finished::new(methods::NAMES),
            spans: Spans::new(config.otlp.clone()),
            departures: Arc::new(Departures::new(server.stopping().clone(), config.timeouts.drain)),
            log,
            store,
            config,
            default_token,
            used,
        }
    }

    /// The bounds on requests a second. Where they have changed, the counts begin anew.
    pub(crate) fn rates(&self) -> Guard<Arc<Rates>> {
        let wanted = self.live.now().rates;
        let rates = self.rates.load();
        if rates.are(wanted) {
            return rates;
        }
        self.rates.rcu(|rates| if rates.are(wanted) { Arc::clone(rates) } else { Arc::new(Rates::new(wanted)) });
        self.rates.load()
    }

    /// What was done until now.
    pub(crate) fn totals(&self) -> Totals {
        let traffic = self.watch.traffic();
        let requests = self.finished.requests();
        let of = |class: fn(&str) -> bool| -> u64 {
            requests.statuses().filter(|(_, status, _)| class(status)).map(|(.., count)| count).sum()
        };
        Totals {
            connections: traffic.accepted.get(),
            requests: of(|_| true),
            refused: of(|status| status.starts_with('4')),
            failed: of(|status| status.starts_with('5')),
            bytes_in: traffic.received(),
            bytes_out: traffic.sent(),
        }
    }

    /// A place for a subscription.
    ///
    /// # Errors
    /// `OVERLOADED` if there is none, or no subscriptions are taken.
    pub(crate) fn place_to_subscribe(&self, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Failure> {
        let live = self.live.now();
        if !live.takes_subscriptions {
            return Err(Failure::switched_off("new subscriptions are switched off (--subscriptions)"));
        }
        Ok(self.places.subscribe(live.subscriptions, namespace, token)?)
    }

    /// A place for a call that waits.
    ///
    /// # Errors
    /// `OVERLOADED` if there is none.
    pub(crate) fn place_to_wait(&self, namespace: &Arc<str>, token: Option<&Token>) -> Result<Place, Failure> {
        Ok(self.places.wait(self.live.now().waits, namespace, token)?)
    }

    /// Lets what may change the store pass, unless the server is in read-only mode.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE`.
    pub(crate) fn check_takes_changes(&self) -> Result<(), Failure> {
        if self.live.now().read_only { Err(Failure::read_only()) } else { Ok(()) }
    }

    /// Whether tokens are optional.
    pub(crate) fn is_test_mode(&self) -> bool {
        self.config.is_test_mode()
    }
}

/// The names of the namespaces that a use created. Their number is bounded.
pub(crate) struct Used {
    names: Mutex<HashSet<String>>,
    most: usize,
}

impl Used {
    fn new(most: usize) -> Self {
        Self { names: Mutex::default(), most }
    }

    /// Makes room for one more.
    ///
    /// # Errors
    /// `OVERLOADED` if there is none.
    pub(crate) fn add(&self, namespace: &str) -> Result<(), Failure> {
        let mut names = self.names.lock();
        if names.len() >= self.most && !names.contains(namespace) {
            let message = format!(
                "{} namespaces were created by use, as many as --test-namespaces allows: delete some with ns.delete",
                names.len()
            );
            return Err(Failure::new(ErrorCode::Overloaded, message));
        }
        names.insert(namespace.to_owned());
        Ok(())
    }

    /// Forgets a namespace that does not exist any more.
    pub(crate) fn remove(&self, namespace: &str) {
        self.names.lock().remove(namespace);
    }
}
