//! Flags for the server's URL and the token, and the first connection.

use std::time::Duration;

use eventodb_client::{Client, Error, RetryPolicy};

use super::notices::Notices;
use crate::usage::{Exit, Refused, Usage};

/// Time limit for the first connection.
const FIRST: Duration = Duration::from_secs(10);
/// After this time a line says what the command is waiting for.
const SILENCE: Duration = Duration::from_secs(1);

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
    // The ids differ from those of `serve`, which has a token too, because clap carries global values upwards.
    #[arg(id = "server_token", long = "token", env = "EVENTODB_TOKEN", hide_env_values = true, global = true)]
    token: Option<String>,
}

impl Connection {
    /// A client that retries for some seconds and says so. The server must answer first, so that a wrong URL fails at
    /// once and is not taken for a server that is restarting.
    ///
    /// # Errors
    /// The URL or the token cannot be used, or no server answers.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let client = Client::new(&self.url, token).map_err(Usage::of)?;
        self.first_answer(&client.with_retry_policy(RetryPolicy::none())).await?;
        let retry = RetryPolicy::default().give_up_after(Duration::from_secs(10));
        Ok(client.with_retry_policy(retry).with_observer(Notices::of_process()))
    }

    async fn first_answer(&self, client: &Client) -> anyhow::Result<()> {
        let answer = async {
            match client.ping().await {
                // Any answer shows that a server is there: one that asks to try later, and also an error of a server or
                // a proxy without this path.
                Err(error @ Error::Unavailable { retry_after: None, .. }) => Err(error.into()),
                _ => Ok(()),
            }
        };
        let told = async {
            tokio::time::sleep(SILENCE).await;
            super::notices::say(&format!("waiting for {}, for up to {} s", self.url, FIRST.as_secs()));
            std::future::pending::<()>().await;
        };
        let limit = tokio::time::sleep(FIRST);
        tokio::select! {
            answer = answer => answer,
            () = told => unreachable!("it waits for ever"),
            () = limit => {
                let message = format!("no answer from {} within {} s", self.url, FIRST.as_secs());
                Err(Refused::new(Exit::Unavailable, anyhow::Error::msg(message)).into())
            }
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Connection").field("url", &self.url).field("token", &token).finish()
    }
}
