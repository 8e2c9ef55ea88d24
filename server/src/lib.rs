//! EventoDB over HTTP: calls, subscriptions and imports on one port, HTTP/1.1 and HTTP/2 alike, clear or by TLS.
//!
//! [`run`] serves until it is told to stop. The caller owns the socket, the store and the stop signals. Folders import
//! downwards only: `api/`, the application, knows no socket; `observe/` has the request log; `http/`, at the bottom, owns
//! sockets and knows no application. Nothing here sees SQL.

mod api;
pub mod config;
mod http;
mod live;
mod observe;
mod otlp;
mod per_thread;
mod run;

pub use api::{METHODS, NEEDS, Need, ROUTES};
pub use config::{Bounds, Config, Mode, Pages, Steering, Timeouts};
pub use live::{AccessLog, AtOnce, Changeable, Live, Rates};
pub use otlp::{OtlpEndpoint, ParseEndpointError};
pub use run::run;

pub use crate::http::{Network, ParseNetworkError, Stop, Tls, TlsError, TlsFiles};
pub use crate::observe::{AUDIT, Totals, act_by_signal, act_in_store};
