//! Flags for the server's URL and the token, and the first connection.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use eventodb_client::{Client, Error, RetryPolicy};
use eventodb_protocol::Token;

use super::notices::Notices;
use crate::serve;
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
    /// File that has the token in its first line. It is used in place of --token and its variable, and keeps the token out
    /// of the list of processes.
    #[arg(id = "server_token_file", long = "token-file", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
    /// File of the authorities in PEM that have signed the certificate of an https server. Without it those of the
    /// system are trusted.
    #[arg(long, env = "EVENTODB_CA_FILE", value_name = "FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// File of the client's own certificate in PEM, for a server that asks for one.
    #[arg(long, env = "EVENTODB_CERT_FILE", value_name = "FILE", requires = "key_file", global = true)]
    cert_file: Option<PathBuf>,
    /// File of the private key of --cert-file, in PEM.
    #[arg(long, env = "EVENTODB_KEY_FILE", value_name = "FILE", requires = "cert_file", global = true)]
    key_file: Option<PathBuf>,
}

impl Connection {
    /// A client that retries for some seconds and says so. The server must answer first, so that a wrong URL fails at
    /// once and is not taken for a server that is restarting.
    ///
    /// # Errors
    /// The URL or the token cannot be used, or no server answers.
    pub(crate) async fn connect(&self) -> anyhow::Result<Client> {
        let client = self.client()?;
        self.first_answer(&client.with_retry_policy(RetryPolicy::none())).await?;
        let retry = RetryPolicy::default().give_up_after(Duration::from_secs(10));
        Ok(client.with_retry_policy(retry).with_observer(Notices::of_process()))
    }

    /// Whether the server's process serves requests: one question with a short limit, and no word about waiting.
    ///
    /// # Errors
    /// The URL or the token cannot be used, or the server does not answer.
    pub(super) async fn check_liveness(&self, limit: Duration) -> anyhow::Result<()> {
        let client = self.client()?.with_retry_policy(RetryPolicy::none());
        match tokio::time::timeout(limit, client.server_liveness()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.no_answer(limit)),
        }
    }

    /// The server's URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    fn no_answer(&self, limit: Duration) -> anyhow::Error {
        let message = format!("no answer from {} within {} s", self.url, limit.as_secs());
        Refused::new(Exit::Unavailable, anyhow::Error::msg(message)).into()
    }

    fn client(&self) -> Result<Client, Usage> {
        let mut builder = Client::builder(&self.url);
        if let Some(token) = self.token()? {
            builder = builder.token(token);
        }
        if let Some(file) = &self.ca_file {
            builder = builder.authorities(read("ca-file", file)?);
        }
        if let (Some(certificate), Some(key)) = (&self.cert_file, &self.key_file) {
            builder = builder.identity(read("cert-file", certificate)?, read("key-file", key)?);
        }
        builder.build().map_err(Usage::of)
    }

    /// The namespace of the token, if one is given and it has the form of a token.
    ///
    /// # Errors
    /// The token's file cannot be read.
    pub(super) fn namespace(&self) -> Result<Option<String>, Usage> {
        let token = self.token()?.and_then(|token| token.parse::<Token>().ok());
        Ok(token.map(|token| token.namespace().to_owned()))
    }

    fn token(&self) -> Result<Option<String>, Usage> {
        let Some(file) = &self.token_file else { return Ok(self.token.clone().filter(|token| !token.is_empty())) };
        let token = serve::first_line("token-file", file)?;
        if serve::is_open_to_all(file) {
            static TOLD: Once = Once::new();
            let warning = format!("every user of this machine may read {file:?}, which has a token: chmod 600");
            TOLD.call_once(|| super::notices::say(&warning));
        }
        Ok(Some(token))
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
            () = limit => Err(self.no_answer(FIRST)),
        }
    }
}

/// What the file of a flag holds.
fn read(flag: &str, file: &Path) -> Result<Vec<u8>, Usage> {
    let unreadable = |error| Usage::at(flag, anyhow::Error::new(error).context(format!("cannot read {file:?}")));
    std::fs::read(file).map_err(unreadable)
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("Connection").field("url", &self.url).field("token", &token).finish()
    }
}
