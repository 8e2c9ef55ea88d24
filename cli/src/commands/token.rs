//! `eventodb token`: changes tokens in the store itself while no server uses it.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_protocol::{DEFAULT_NAMESPACE, Grant, Token};
use eventodb_store::Error;
use eventodb_store::model::{NewToken, TokenChange, TokenId};

use super::maintain::say;
use crate::serve;

/// Options of `eventodb token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give a namespace a new token with every right and print it. Its other tokens with the right `admin` open nothing
    /// any more.
    Rotate {
        /// The namespace. `default` is the administrator's.
        namespace: String,
        /// The data directory of a server on SQLite, which must be stopped.
        #[arg(long, env = "EVENTODB_DATA_DIR", default_value = serve::DATA_DIR)]
        data_dir: PathBuf,
        #[command(flatten)]
        database: serve::Database,
    },
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Rotate { namespace, data_dir, database } = args.command;
    let store = serve::Existing::open(&database, &data_dir).await?;
    let token = Token::generate(&namespace);
    let outcome = store.backend.change_tokens(TokenChange::Recover(everything(&token))).await;
    store.backend.close().await;
    match outcome {
        Ok(_) => say(token.as_str())?,
        Err(Error::NamespaceNotFound) => anyhow::bail!("there is no namespace {namespace}"),
        Err(error) => return Err(error.into()),
    }
    if namespace == DEFAULT_NAMESPACE {
        store.renew_token_file(&token)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A new token with every right.
fn everything(token: &Token) -> NewToken {
    NewToken {
        id: TokenId::generate(),
        hash: token.hash(),
        namespace: token.namespace().into(),
        description: String::new(),
        grant: Grant::everything(),
        expires_at: None,
    }
}
