//! What every request can reach.

use std::sync::Arc;

use eventodb_schema::{DEFAULT_NAMESPACE, Token};
use eventodb_store::EventStore;
use http::HeaderValue;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::config::{Config, Mode};
use crate::connection::Watch;

/// The parts that all connections share.
pub(crate) struct State {
    pub(crate) store: Arc<EventStore>,
    pub(crate) config: Config,
    /// All connections, and the time limits they are held to.
    pub(crate) watch: Arc<Watch>,
    /// The memory of what waits for clients.
    pub(crate) budget: Arc<Budget>,
    /// Cancelled when the server is told to stop: subscriptions and waiting reads end.
    pub(crate) stopping: CancellationToken,
    /// In test mode: what callers without a token are told.
    pub(crate) default_token: Option<HeaderValue>,
}

impl State {
    pub(crate) fn new(store: Arc<EventStore>, config: Config, stopping: CancellationToken) -> Self {
        let default_token = match &config.mode {
            Mode::Production => None,
            Mode::Test { default_token } => {
                let token = default_token.clone().unwrap_or_else(|| Token::generate(DEFAULT_NAMESPACE));
                Some(HeaderValue::from_str(token.as_str()).expect("a token is visible ASCII"))
            }
        };
        Self {
            watch: Arc::new(Watch::new(&config.timeouts)),
            budget: Arc::new(Budget::new(config.bounds.memory)),
            store,
            config,
            stopping,
            default_token,
        }
    }

    /// Whether tokens are optional.
    pub(crate) fn is_test_mode(&self) -> bool {
        matches!(self.config.mode, Mode::Test { .. })
    }
}
