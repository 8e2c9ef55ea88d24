//! Which server, and as whom.

use std::time::Duration;

use eventodb_client::{Client, RetryPolicy};

use crate::usage::Usage;

/// Options that every client command has.
#[derive(Clone, clap::Args)]
pub(crate) struct Connection {
    /// The server's URL.
    #[arg(
        id = "server_url",
        long = "url",
        env = "EVENTODB_URL",
        default_value = "http://127.0.0.1:8080",
        global = true
    )]
    url: String,
    /// The namespace's token.
    // The ids differ from those of `serve`, which has a token too: clap carries global values upwards.
    #[arg(id = "server_token", long = "token", env = "EVENTODB_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
}

impl Connection {
    /// A client that retries for as long as a person is willing to watch.
    ///
    /// # Errors
    /// A URL or token that cannot be used.
    pub(crate) fn client(&self) -> Result<Client, Usage> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let retry = RetryPolicy::default().give_up_after(Duration::from_secs(10));
        Ok(Client::new(&self.url, token).map_err(Usage::new)?.with_retry_policy(retry))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Connection").field("url", &self.url).field("token", &token).finish()
    }
}
