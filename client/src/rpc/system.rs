//! `sys.*`, `/health`, `/version`.

use eventodb_protocol::reply::{Configuration, Health, Readiness};

use crate::client::{Client, Repeat};
use crate::error::Result;

impl Client {
    /// The server's version.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn server_version(&self) -> Result<String> {
        self.call(&("sys.version",), Repeat::Always).await?.parse()
    }

    /// The state of the server.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn server_health(&self) -> Result<Health> {
        self.call(&("sys.health",), Repeat::Always).await?.parse()
    }

    /// The settings of the server, and where each comes from. Needs the administrator's token.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn server_configuration(&self) -> Result<Configuration> {
        self.call(&("sys.config",), Repeat::Always).await?.parse()
    }

    /// Whether the server answers reads, and why it refuses writes if it does: `GET /health/ready`, without a retry.
    ///
    /// # Errors
    /// `Unavailable` if it answers no reads, and whatever else a call can fail with.
    pub async fn server_readiness(&self) -> Result<Readiness> {
        self.get_path("/health/ready").await?.parse()
    }

    /// Checks that the server's process serves requests: `GET /health/live`, without a retry.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn server_liveness(&self) -> Result<()> {
        self.get_path("/health/live").await.map(drop)
    }

    /// Checks that the server answers now: `GET /health`, without a retry.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn ping(&self) -> Result<()> {
        self.get_path("/health").await.map(drop)
    }
}
