//! The settings of a server, and their defaults.
//!
//! Time limits are settings so that an operator can fit them to a network, and a test can make them
//! short. The command line has a flag for each.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::Limits;

use crate::http::{self, Network, Tls};

/// All settings of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether tokens are needed.
    pub mode: Mode,
    /// The largest names, messages and requests that clients may send.
    pub limits: Limits,
    /// How long clients and the server may take.
    pub timeouts: Timeouts,
    /// The most connections, requests and bytes at once.
    pub bounds: Bounds,
    /// The most requests a second.
    pub rates: Rates,
    /// Proxies whose word on the address of a client is believed.
    pub trusted_proxies: Arc<[Network]>,
    /// Which web pages may talk to the server.
    pub pages: Pages,
    /// TLS on every connection; without it they are clear.
    pub tls: Option<Arc<Tls>>,
    /// Whether every request is logged, not only those that failed or were slow.
    pub access_log: bool,
    /// Whether everybody may see the metrics, not only who has a token of `default` for it.
    pub metrics_public: bool,
}

/// Pages that may talk to the server, and names of the server.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    /// Origins such as `https://shop.example`. If there are none, the pages of every origin may do so in
    /// production mode.
    pub origins: Vec<String>,
    /// Host names, without a port, by which the server may be called in test mode, beside `localhost` and addresses.
    pub hosts: Vec<String>,
}

/// Default for the most namespaces that exist at once because test mode created them.
pub const TEST_NAMESPACES: usize = 10_000;

/// Whether tokens are needed.
#[derive(Clone, Debug)]
pub enum Mode {
    /// Each call needs a token.
    Production,
    /// A token is optional, and the first use of a namespace creates it.
    Test {
        /// Most namespaces that exist at once because a use created them.
        namespaces: usize,
    },
}

impl Config {
    /// The limits that the HTTP layer enforces.
    pub(crate) fn http_limits(&self) -> http::Limits {
        let Timeouts { head, idle, stall, grace, drain, .. } = self.timeouts;
        let Bounds { connections, connections_per_address, http2_streams, memory, .. } = self.bounds;
        let proxies = Arc::clone(&self.trusted_proxies);
        http::Limits {
            connections,
            connections_per_address,
            proxies,
            http2_streams,
            memory,
            head,
            idle,
            stall,
            grace,
            drain,
        }
    }

    /// Whether tokens are optional.
    pub(crate) fn is_test_mode(&self) -> bool {
        matches!(self.mode, Mode::Test { .. })
    }
}

impl Mode {
    /// Test mode with the default bound.
    pub fn test() -> Self {
        Self::Test { namespaces: TEST_NAMESPACES }
    }
}

/// How long clients and the server may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From the first byte of a request (or the connection) to the end of its head.
    pub head: Duration,
    /// Between two pieces of a request's body.
    pub body_gap: Duration,
    /// For a request's body in all; imports have no such limit.
    pub body_total: Duration,
    /// How long a connection may stay open between requests.
    pub idle: Duration,
    /// How long a client may take nothing of what is sent to it.
    pub stall: Duration,
    /// How long a write waits for its commit before it is answered with `TIMEOUT`.
    pub append: Duration,
    /// How long a subscription may be silent before it gets a heartbeat.
    pub heartbeat: Duration,
    /// How long requests are still answered, after the server is told to stop, before the socket closes. Readiness is
    /// 503 meanwhile, and replies close their connections.
    pub grace: Duration,
    /// How long requests in progress have to end once the socket is closed.
    pub drain: Duration,
    /// A request that takes longer than this is logged.
    pub slow_request: Duration,
}

/// The most connections, requests and bytes at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
    /// Open connections of one address that is no trusted proxy's. More are closed at once.
    pub connections_per_address: usize,
    /// Subscriptions.
    pub subscriptions: AtOnce,
    /// Calls that wait for a message.
    pub waits: AtOnce,
    /// Imports of all namespaces.
    pub imports: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub http2_streams: u32,
    /// Bytes of memory for what waits for clients: connections, bodies of calls, imports, pages, replies. A request
    /// that needs more is refused as overload.
    pub memory: usize,
}

/// The most of something at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtOnce {
    /// Of one namespace.
    pub per_namespace: usize,
    /// With one token.
    pub per_token: usize,
}

/// The most requests a second; what is `None` has no bound.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// Requests of one address, except probes.
    pub requests_per_address: Option<NonZeroU32>,
    /// Requests with one token, except probes.
    pub requests_per_token: Option<NonZeroU32>,
    /// Wrong tokens of one address. Beyond it they are refused as too many. Right ones never are.
    pub wrong_tokens: Option<NonZeroU32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Production,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            rates: Rates::default(),
            trusted_proxies: Arc::default(),
            pages: Pages::default(),
            tls: None,
            access_log: false,
            metrics_public: false,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body_gap: Duration::from_secs(30),
            body_total: Duration::from_secs(120),
            idle: Duration::from_secs(120),
            stall: Duration::from_secs(30),
            append: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            grace: Duration::ZERO,
            drain: Duration::from_secs(10),
            slow_request: Duration::from_secs(1),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests_per_address: None, requests_per_token: None, wrong_tokens: NonZeroU32::new(20) }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        let many = AtOnce { per_namespace: 100_000, per_token: 100_000 };
        Self {
            connections: 20_000,
            connections_per_address: usize::MAX,
            subscriptions: many,
            waits: many,
            imports: 64,
            http2_streams: 256,
            memory: 1024 * 1024 * 1024,
        }
    }
}
