//! `eventodb token`: tokens of namespaces, on the store itself while no server uses it.

use std::path::PathBuf;
use std::process::ExitCode;

use eventodb_schema::Token;
use eventodb_store::Error;

use super::maintain::say;
use crate::serve;
use crate::usage::Usage;

/// Options of `eventodb token`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Give a namespace a new token and print it; the old one opens nothing any more.
    Rotate {
        /// The namespace; `default` is the administrator's.
        namespace: String,
        /// The data directory of a server on SQLite, which must be stopped.
        #[arg(long, env = "EVENTODB_DATA_DIR", default_value = "./data")]
        data_dir: PathBuf,
        /// The database, as `serve` is given it.
        #[arg(long, env = "EVENTODB_DB_URL", hide_env_values = true)]
        db_url: Option<String>,
    },
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Rotate { namespace, data_dir, db_url } = args.command;
    let backend = serve::existing_backend(db_url.as_deref(), &data_dir).await?;
    let token = Token::generate(&namespace);
    let outcome = backend.set_token(&namespace, &token.hash()).await;
    backend.close().await;
    match outcome {
        Ok(()) => say(token.as_str())?,
        Err(Error::NamespaceNotFound) => return Err(Usage(format!("there is no namespace {namespace}")).into()),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}
