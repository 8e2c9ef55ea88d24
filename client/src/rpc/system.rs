//! `sys.*`, `/health`, `/version`.

use eventodb_protocol::reply::{Configuration, Health};

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

    /// Checks that the server answers now: `GET /health`, without a retry.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn ping(&self) -> Result<()> {
        self.get_path("/health").await.map(drop)
    }
}
