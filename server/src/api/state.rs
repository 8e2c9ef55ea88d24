//! What every request can reach.

use std::collections::HashSet;
use std::sync::Arc;

use eventodb_protocol::{DEFAULT_NAMESPACE, ErrorCode, Token};
use eventodb_store::EventStore;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::api::appends::Appends;
use crate::api::departure::Departures;
use crate::api::errors::Failure;
use crate::api::methods;
use crate::api::places::Places;
use crate::api::rates::Rates;
use crate::config::{Config, Mode};
use crate::http::{Budget, Server, Watch};
use crate::observe::{RequestLog, Requests};

/// The parts that all connections share.
pub(crate) struct AppState {
    pub(crate) store: Arc<EventStore>,
    pub(crate) config: Config,
    /// All connections.
    pub(crate) watch: Arc<Watch>,
    /// The memory of what waits for clients.
    pub(crate) budget: Arc<Budget>,
    /// The bounds on requests a second.
    pub(crate) rates: Rates,
    /// The bounds on what stays.
    pub(crate) places: Places,
    /// The appends that came in.
    pub(crate) appends: Arc<Appends>,
    /// What is counted of requests.
    pub(crate) requests: Requests,
    /// The request log.
    pub(crate) log: Arc<RequestLog>,
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
    pub(crate) fn new(store: Arc<EventStore>, config: Config, log: Arc<RequestLog>, server: &Server) -> Self {
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
            rates: Rates::new(&config.rates),
            places: Places::new(&config.bounds),
            appends: Arc::default(),
            requests: Requests::new(methods::NAMES),
            departures: Arc::new(Departures::new(server.stopping().clone(), config.timeouts.drain)),
            log,
            store,
            config,
            default_token,
            used,
        }
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
