//! `eventodb token`: tokens, through a server or in the store itself.
//!
//! On the store itself the commands ask for no token: whoever may write to the store may do everything. That is the way
//! to a new administrator's token after the last one was lost.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches, Subcommand};
use eventodb_client::{CreateToken, RotateToken};
use eventodb_protocol::limits::DESCRIPTION_BYTES;
use eventodb_protocol::reply::{TokenAbout, TokenListed};
use eventodb_protocol::rights::Categories;
use eventodb_protocol::typed::{id, whole};
use eventodb_protocol::{DEFAULT_NAMESPACE, Grant, Limits, Right, Rights, Timestamp, Token, shown};
use eventodb_store::Error;
use eventodb_store::model::{NewToken, TokenChange, TokenId, TokenRecord};
use serde_json::Value;

use super::connection::Connection;
use super::output::{Output, finish};
use crate::contexts::Contexts;
use crate::serve;
use crate::usage::Usage;

/// Options of `eventodb token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create a token and print it.
    Create {
        #[command(flatten)]
        new: New,
        #[command(flatten)]
        place: Place,
    },
    /// List the living tokens of a namespace, without the tokens themselves.
    List {
        /// The namespace: without it that of the token that is used, and in the store itself `default`.
        #[arg(long)]
        namespace: Option<String>,
        #[command(flatten)]
        place: Place,
    },
    /// End a token at once. What it has opened ends with it.
    Revoke {
        /// The id of the token, as `token list` shows it.
        #[arg(value_parser = id)]
        id: uuid::Uuid,
        #[command(flatten)]
        place: Place,
    },
    /// Print a new token that takes the place of another.
    ///
    /// With --url: it has the rights of the token with this id, or of the one that is used, which ends after a grace. In the
    /// store itself: it has every right in this namespace, whose other tokens with the right `admin` open nothing any
    /// more.
    Rotate {
        /// With --url the id of the token; in the store itself the namespace.
        target: Option<String>,
        /// In the store itself: the namespace. `default` is the administrator's.
        #[arg(long, conflicts_with = "target")]
        namespace: Option<String>,
        /// With --url: how long the old token still opens its namespace, in milliseconds.
        #[arg(long, default_value_t = eventodb_protocol::limits::GRACE_DEFAULT_MS, value_name = "MS", value_parser = whole(0.., 60_000_u64))]
        grace_ms: u64,
        #[command(flatten)]
        place: Place,
    },
}

/// A token to be created.
#[derive(Debug, clap::Args)]
struct New {
    /// The namespace: without it that of the token that is used, and in the store itself `default`.
    #[arg(long)]
    namespace: Option<String>,
    /// Its rights, separated by commas: read, write, consume, admin.
    #[arg(long, value_delimiter = ',', required = true, value_parser = right)]
    rights: Vec<Right>,
    /// The categories to which they are limited, separated by commas; a name that ends in `*` is a prefix.
    #[arg(long, value_delimiter = ',')]
    categories: Vec<String>,
    /// When it expires, in RFC 3339.
    #[arg(long, value_name = "TIME")]
    expires_at: Option<Timestamp>,
    /// Free text.
    #[arg(long, default_value = "")]
    description: String,
}

/// Where the tokens are changed: in a store that is named here, or through a server.
#[derive(Debug, clap::Args)]
struct Place {
    // Before the others, because they take their values out of what is matched.
    #[command(flatten)]
    way: Way,
    /// Work on the store itself: the data directory of a server on SQLite, which must be stopped.
    #[arg(long, env = "EVENTODB_DATA_DIR", default_value = serve::DATA_DIR)]
    data_dir: PathBuf,
    #[command(flatten)]
    database: serve::Database,
}

/// Whether a server is asked. What is typed decides; if neither a server nor a store is typed, a server is asked if
/// `EVENTODB_URL` or `EVENTODB_CONTEXT` names one, or a context is in use and no variable names a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Server,
    /// The store that the flags and variables of the database name.
    Store,
    /// The directory that was typed, whatever database a variable names.
    Directory,
}

impl clap::Args for Way {
    fn augment_args(command: clap::Command) -> clap::Command {
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl FromArgMatches for Way {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let source = |id| matches.value_source(id);
        let typed = |id| source(id) == Some(ValueSource::CommandLine);
        let from_variable = |id| source(id) == Some(ValueSource::EnvVariable);
        let stores = ["data_dir", "db_url", "db_url_file"];
        let store = stores.into_iter().any(typed);
        let server = ["server_url", "server_context"];
        match (server.into_iter().any(typed), store) {
            (true, true) => {
                let message =
                    "--url or --context names a server, and --data-dir or --db-url a store: give one of them\n";
                Err(clap::Error::raw(ErrorKind::ArgumentConflict, message))
            }
            (true, false) => Ok(Self::Server),
            (false, true) if typed("data_dir") && !["db_url", "db_url_file"].into_iter().any(typed) => {
                Ok(Self::Directory)
            }
            (false, false) if server.into_iter().any(from_variable) => Ok(Self::Server),
            (false, false) if !stores.into_iter().any(from_variable) && a_context_is_in_use() => Ok(Self::Server),
            (false, _) => Ok(Self::Store),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Whether `eventodb context use` has chosen a server. A file that cannot be read is told once a context is needed.
fn a_context_is_in_use() -> bool {
    Contexts::read().map_or(true, |contexts| contexts.current.is_some())
}

fn right(name: &str) -> Result<Right, String> {
    Right::named(name).ok_or_else(|| "the rights are read, write, consume, admin".to_owned())
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut output = Output::new(args.json);
    let result = match args.command.place().way {
        Way::Server => through_server(args.command, &args.connection, &mut output).await,
        Way::Store | Way::Directory => in_store(args.command, &mut output).await,
    };
    finish(result, output)
}

impl Command {
    fn place(&self) -> &Place {
        match self {
            Self::Create { place, .. }
            | Self::List { place, .. }
            | Self::Revoke { place, .. }
            | Self::Rotate { place, .. } => place,
        }
    }
}

async fn through_server(command: Command, connection: &Connection, output: &mut Output) -> anyhow::Result<()> {
    let client = connection.connect().await?;
    match command {
        Command::Create { new, .. } => {
            // A token of our own, so that the call can be repeated if the reply is lost.
            let namespace = new.namespace.clone().or(connection.namespace()?);
            let token = namespace.as_deref().map(|namespace| Token::generate(namespace).to_string());
            let created = client
                .create_token(&CreateToken {
                    namespace: new.namespace,
                    token,
                    description: Some(new.description),
                    rights: new.rights.into_iter().collect(),
                    categories: Some(new.categories).filter(|categories| !categories.is_empty()),
                    expires_at: new.expires_at,
                })
                .await?;
            output.value(&serde_json::to_value(&created)?, || created.token)
        }
        Command::List { namespace, .. } => list(&client.tokens(namespace.as_deref()).await?, output),
        Command::Revoke { id, .. } => {
            let revoked = client.revoke_token(&id.to_string()).await?;
            output.value(&serde_json::to_value(&revoked)?, || format!("{id} revoked at {}", revoked.revoked_at))
        }
        Command::Rotate { target, namespace, grace_ms, .. } => {
            if namespace.is_some() {
                return Err(Usage::new("--namespace is for the store itself: name it by --data-dir or --db-url").into());
            }
            // One's own token is rotated within one's own namespace, which is known here; another's may be anywhere.
            let own = if target.is_none() { connection.namespace()? } else { None };
            let token = own.map(|namespace| Token::generate(&namespace).to_string());
            let options = RotateToken { token, grace_ms: Some(grace_ms) };
            let created = client.rotate_token(target.as_deref(), &options).await?;
            output.value(&serde_json::to_value(&created)?, || created.token)
        }
    }
}

async fn in_store(command: Command, output: &mut Output) -> anyhow::Result<()> {
    let place = command.place();
    let store = match place.way {
        Way::Directory => serve::Existing::in_directory(&place.data_dir).await?,
        Way::Server | Way::Store => serve::Existing::open(&place.database, &place.data_dir).await?,
    };
    let outcome = change(&store, command, output).await;
    store.backend.close().await;
    outcome
}

async fn change(store: &serve::Existing, command: Command, output: &mut Output) -> anyhow::Result<()> {
    match command {
        Command::Create { new, .. } => {
            let token = Token::generate(new.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE));
            let record = changed(store, TokenChange::Create(new.checked(&token)?), token.namespace()).await?;
            created(&token, record, output)
        }
        Command::List { namespace, .. } => {
            let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
            if store.backend.namespace(namespace).await?.is_none() {
                anyhow::bail!("there is no namespace {}", shown::name(namespace));
            }
            let (tokens, now) = (store.backend.tokens(namespace).await?, Timestamp::now());
            let living = tokens.into_iter().filter(|token| token.lives(now));
            list(&living.map(listed).collect::<Vec<_>>(), output)
        }
        Command::Revoke { id, .. } => {
            let record = changed(store, TokenChange::Revoke(TokenId(id)), "").await?;
            let at = record.revoked_at.context("it is revoked now")?;
            let value = serde_json::json!({ "id": id.to_string(), "revokedAt": at });
            output.value(&value, || format!("{id} revoked at {at}"))
        }
        Command::Rotate { target, namespace, .. } => {
            let Some(namespace) = target.or(namespace) else {
                return Err(Usage::new("name the namespace, as in `eventodb token rotate default`").into());
            };
            let token = Token::generate(&namespace);
            let new = new_token(&token, Grant::everything());
            let record = changed(store, TokenChange::Recover(new), &namespace).await?;
            created(&token, record, output)?;
            if namespace == DEFAULT_NAMESPACE { Ok(store.renew_token_file(&token)?) } else { Ok(()) }
        }
    }
}

/// Makes a change in the store, with a line of the audit. `namespace` is for the error.
async fn changed(store: &serve::Existing, change: TokenChange, namespace: &str) -> anyhow::Result<TokenRecord> {
    let act = match change {
        TokenChange::Create(_) => "token.create",
        TokenChange::Revoke(_) => "token.revoke",
        TokenChange::Rotate(_) | TokenChange::Recover(_) => "token.rotate",
    };
    let record = match store.backend.change_tokens(change).await {
        Err(Error::NamespaceNotFound) => anyhow::bail!("there is no namespace {}", shown::name(namespace)),
        outcome => outcome?,
    };
    serve::audit(act, &record.id.0.to_string(), &record.namespace);
    Ok(record)
}

impl New {
    /// The new token, whose text is this.
    fn checked(self, token: &Token) -> Result<NewToken, Usage> {
        if self.description.len() > DESCRIPTION_BYTES || self.description.contains('\0') {
            return Err(Usage::new(format!("--description has at most {DESCRIPTION_BYTES} bytes, and no U+0000")));
        }
        if self.expires_at.is_some_and(|end| end <= Timestamp::now()) {
            return Err(Usage::new("--expires-at must lie in the future"));
        }
        let categories = match self.categories.is_empty() {
            true => Categories::All,
            false => Categories::only(self.categories, &Limits::default()).map_err(Usage::of)?,
        };
        let rights: Rights = self.rights.into_iter().collect();
        let grant = Grant::new(rights, categories).map_err(Usage::of)?;
        Ok(NewToken { description: self.description, expires_at: self.expires_at, ..new_token(token, grant) })
    }
}

fn new_token(token: &Token, grant: Grant) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        hash: token.hash(),
        namespace: token.namespace().into(),
        origin: None,
        description: String::new(),
        grant,
        expires_at: None,
    }
}

/// Prints a token that was just made: it is told this once.
fn created(token: &Token, record: TokenRecord, output: &mut Output) -> anyhow::Result<()> {
    let mut value = serde_json::to_value(listed(record).about)?;
    value["token"] = Value::String(token.to_string());
    output.value(&value, || token.to_string())
}

/// What a list shows of a token.
fn listed(record: TokenRecord) -> TokenListed {
    let categories = record.grant.categories().names();
    TokenListed {
        last_used_at: record.last_used_at,
        about: TokenAbout {
            id: record.id.0.to_string(),
            namespace: record.namespace.as_ref().to_owned(),
            rights: record.grant.rights(),
            categories: categories.map(|names| names.iter().map(|name| name.to_string()).collect()),
            created_at: record.created_at,
            expires_at: record.end(),
            description: record.description,
        },
    }
}

fn list(tokens: &[TokenListed], output: &mut Output) -> anyhow::Result<()> {
    let time = |time: Option<Timestamp>, none: &str| time.map_or_else(|| none.to_owned(), |time| time.to_string());
    let rows = tokens.iter().map(|TokenListed { about, last_used_at }| {
        vec![
            about.id.clone(),
            about.rights.iter().map(Right::name).collect::<Vec<_>>().join(","),
            about.categories.as_ref().map_or_else(|| "all".to_owned(), |names| names.join(",")),
            time(about.expires_at, "never"),
            time(*last_used_at, "never"),
            about.description.clone(),
        ]
    });
    let head = ["ID", "RIGHTS", "CATEGORIES", "ENDS", "LAST USED", "DESCRIPTION"];
    output.table(&serde_json::to_value(tokens)?, &head, &rows.collect::<Vec<_>>())
}
