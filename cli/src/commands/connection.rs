//! Flags for the server's URL and the token, the context beneath them, and the first connection.

use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use eventodb_client::{Client, Error, RetryPolicy};
use eventodb_protocol::Token;

use super::notices::Notices;
use crate::contexts::{Context, Contexts};
use crate::serve;
use crate::usage::{Exit, Refused, Usage};

/// Time limit for the first connection.
const FIRST: Duration = Duration::from_secs(10);
/// After this time a line says what the command is waiting for.
const SILENCE: Duration = Duration::from_secs(1);

/// Options that every client command has.
#[derive(Clone, clap::Args)]
pub(crate) struct Connection {
    /// The server's URL [default: that of the context in use, or http://127.0.0.1:8080].
    #[arg(id = "server_url", long = "url", env = "EVENTODB_URL", hide_env_values = true, global = true)]
    url: Option<String>,
    /// The context to use, in place of the one that `eventodb context use` names. It is not for --url.
    #[arg(id = "server_context", long = "context", env = "EVENTODB_CONTEXT", value_name = "NAME", global = true)]
    context: Option<String>,
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
        let target = self.target()?;
        let client = client(&target)?;
        first_answer(&target.url, &client.with_retry_policy(RetryPolicy::none())).await?;
        let retry = RetryPolicy::default().give_up_after(Duration::from_secs(10));
        Ok(client.with_retry_policy(retry).with_observer(Notices::of_process()))
    }

    /// Whether the server's process serves requests: one question with a short limit, and no word about waiting.
    ///
    /// # Errors
    /// The URL or the token cannot be used, or the server does not answer.
    pub(super) async fn check_liveness(&self, limit: Duration) -> anyhow::Result<()> {
        let target = self.target()?;
        let client = client(&target)?.with_retry_policy(RetryPolicy::none());
        match tokio::time::timeout(limit, client.server_liveness()).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(no_answer(&target.url, limit)),
        }
    }

    /// The server's URL.
    ///
    /// # Errors
    /// The context cannot be used.
    pub(super) fn url(&self) -> anyhow::Result<String> {
        Ok(self.target()?.url)
    }

    /// The namespace of the token, if one is given and it has the form of a token.
    ///
    /// # Errors
    /// The token's file cannot be read, or the context cannot be used.
    pub(super) fn namespace(&self) -> anyhow::Result<Option<String>> {
        let token = token(&self.target()?)?.and_then(|token| token.parse::<Token>().ok());
        Ok(token.map(|token| token.namespace().to_owned()))
    }

    /// The flags and variables as a context.
    ///
    /// # Errors
    /// There is no URL, or it is none of a server.
    pub(super) fn given_context(&self) -> Result<Context, Usage> {
        let url = self.url.clone().ok_or_else(|| Usage::new("--url must name the server"))?;
        Client::check_url(&url).map_err(Usage::of)?;
        Ok(self.over(Context { url, ..Context::default() }))
    }

    /// The server and what opens it: a flag takes precedence over a variable, and both over the context. If a flag or a
    /// variable names the server, no context is used, so that its token is not sent to another server.
    fn target(&self) -> anyhow::Result<Context> {
        let is_variable = |name: &str, value: &str| std::env::var(name).is_ok_and(|of_variable| of_variable == value);
        let named = self.context.as_deref().filter(|name| !name.is_empty());
        let context_is_typed = named.is_some_and(|name| !is_variable("EVENTODB_CONTEXT", name));
        match &self.url {
            Some(url) if context_is_typed && !is_variable("EVENTODB_URL", url) => {
                Err(Usage::new("--url names a server, and --context another: give one of them").into())
            }
            Some(url) if !context_is_typed => Ok(self.over(Context { url: url.clone(), ..Context::default() })),
            _ => {
                let contexts = Contexts::read()?;
                let context = contexts.find(named)?.cloned();
                let none = || Context { url: DEFAULT_URL.to_owned(), ..Context::default() };
                Ok(self.over(context.unwrap_or_else(none)))
            }
        }
    }

    /// The context with what flags and variables set.
    fn over(&self, context: Context) -> Context {
        let given = self.token.clone().filter(|token| !token.is_empty());
        let (token, token_file) = match (&self.token_file, given) {
            (Some(file), _) => (None, Some(file.clone())),
            (None, Some(token)) => (Some(token), None),
            (None, None) => (context.token, context.token_file),
        };
        Context {
            token,
            token_file,
            url: context.url,
            ca_file: self.ca_file.clone().or(context.ca_file),
            cert_file: self.cert_file.clone().or(context.cert_file),
            key_file: self.key_file.clone().or(context.key_file),
        }
    }
}

/// The server without a flag, a variable or a context.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

fn client(target: &Context) -> Result<Client, Usage> {
    let mut builder = Client::builder(&target.url);
    if let Some(token) = token(target)? {
        builder = builder.token(token);
    }
    if let Some(file) = &target.ca_file {
        builder = builder.authorities(read("ca-file", file)?);
    }
    if let (Some(certificate), Some(key)) = (&target.cert_file, &target.key_file) {
        builder = builder.identity(read("cert-file", certificate)?, read("key-file", key)?);
    }
    builder.build().map_err(Usage::of)
}

fn token(target: &Context) -> Result<Option<String>, Usage> {
    let Some(file) = &target.token_file else { return Ok(target.token.clone()) };
    let token = serve::first_line("token-file", file)?;
    if serve::is_open_to_all(file) {
        static TOLD: Once = Once::new();
        let warning = format!("every user of this machine may read {file:?}, which has a token: chmod 600");
        TOLD.call_once(|| super::notices::say(&warning));
    }
    Ok(Some(token))
}

fn no_answer(url: &str, limit: Duration) -> anyhow::Error {
    let message = format!("no answer from {url} within {} s", limit.as_secs());
    Refused::new(Exit::Unavailable, anyhow::Error::msg(message)).into()
}

async fn first_answer(url: &str, client: &Client) -> anyhow::Result<()> {
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
        super::notices::say(&format!("waiting for {}, for up to {} s", url, FIRST.as_secs()));
        std::future::pending::<()>().await;
    };
    let limit = tokio::time::sleep(FIRST);
    tokio::select! {
        answer = answer => answer,
        () = told => unreachable!("it waits for ever"),
        () = limit => Err(no_answer(url, FIRST)),
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
        let (url, context) = (&self.url, &self.context);
        f.debug_struct("Connection").field("url", url).field("context", context).field("token", &token).finish()
    }
}
