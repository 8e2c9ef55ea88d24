//! `/api/v1/performance`.

use eventodb_protocol::performance::{Cache, Database, Groups, Performance, Queries};

use crate::client::Client;
use crate::error::Result;

impl Client {
    /// How many requests the server has answered, and how long they took. Needs a token of `default` with the right
    /// `read`. Without retries.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn performance(&self) -> Result<Performance> {
        self.get_path("/api/v1/performance").await?.parse()
    }

    /// The same by method and namespace, and which requests were slow.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn performance_queries(&self) -> Result<Queries> {
        self.get_path("/api/v1/performance/queries").await?.parse()
    }

    /// What the server found in memory.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn performance_cache(&self) -> Result<Cache> {
        self.get_path("/api/v1/performance/cache").await?.parse()
    }

    /// The database and its pools of connections.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn performance_database(&self) -> Result<Database> {
        self.get_path("/api/v1/performance/database").await?.parse()
    }

    /// Consumer groups and subscriptions.
    ///
    /// # Errors
    /// Whatever a call can fail with.
    pub async fn performance_groups(&self) -> Result<Groups> {
        self.get_path("/api/v1/performance/groups").await?.parse()
    }
}
