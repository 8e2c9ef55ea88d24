//! The settings of a server, and their defaults.
//!
//! Time limits are settings so that an operator can fit them to a network, and a test can make them
//! short. The command line has a flag for each.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use eventodb_protocol::Limits;
use eventodb_protocol::reply::Configuration;
use eventodb_protocol::request::ChangeConfiguration;

use crate::http::{self, Network, Tls};
use crate::live::{Changeable, Live};
use crate::otlp::OtlpEndpoint;

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
    /// What may change while the server runs, as it is at the start.
    pub changeable: Changeable,
    /// What is in force of it, if somebody else has a hand in it. It begins with `changeable` otherwise.
    pub live: Option<Arc<Live>>,
    /// What shows and changes the settings for `sys.config`.
    pub steering: Option<Arc<dyn Steering>>,
    /// Proxies whose word on the address of a client is believed.
    pub trusted_proxies: Arc<[Network]>,
    /// Which web pages may talk to the server.
    pub pages: Pages,
    /// TLS on every connection; without it they are clear.
    pub tls: Option<Arc<Tls>>,
    /// Whether everybody may see the metrics, not only who has a token of `default` for it.
    pub metrics_public: bool,
    /// Bytes of memory that the process may use, if that is known: for the metrics.
    pub usable_memory: Option<usize>,
    /// Where spans are sent, if anywhere. It has an effect with the feature `otel` only.
    pub otlp: Option<OtlpEndpoint>,
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
    /// What is in force of the settings that may change.
    pub(crate) fn live(&self) -> Arc<Live> {
        self.live.clone().unwrap_or_else(|| Arc::new(Live::new(self.changeable)))
    }

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
}

/// The most connections, requests and bytes at once.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; more wait in the kernel's queue.
    pub connections: usize,
    /// Open connections of one address that is no trusted proxy's. More are closed at once.
    pub connections_per_address: usize,
    /// Imports of all namespaces.
    pub imports: usize,
    /// Requests at the same time on one HTTP/2 connection.
    pub http2_streams: u32,
    /// Bytes of memory for what waits for clients: connections, bodies of calls, imports, pages, replies. A request
    /// that needs more is refused as overload.
    pub memory: usize,
}

/// Shows the settings of this process, and changes those that may be changed while it runs.
pub trait Steering: fmt::Debug + Send + Sync {
    /// The names of the settings that may be changed.
    fn changeable(&self) -> &'static [&'static str];

    /// Every setting.
    fn show(&self) -> Configuration;

    /// Changes settings, or withdraws earlier changes: all or nothing. Returns what has changed, for the audit.
    ///
    /// # Errors
    /// What is wrong, for the caller.
    fn change(&self, change: &ChangeConfiguration) -> Result<String, String>;
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Production,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            bounds: Bounds::default(),
            changeable: Changeable::default(),
            live: None,
            steering: None,
            trusted_proxies: Arc::default(),
            pages: Pages::default(),
            tls: None,
            metrics_public: false,
            usable_memory: None,
            otlp: None,
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
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_address: usize::MAX,
            imports: 64,
            http2_streams: 256,
            memory: 1024 * 1024 * 1024,
        }
    }
}
