//! `eventodb migrate`: brings a PostgreSQL database up to date, for those who do not let servers do it.

use std::io::Write as _;
use std::process::ExitCode;

use eventodb_store::backend::postgres::{Postgres, Settings};

use crate::usage::Usage;

/// Flags of `migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The database: `postgres://…`.
    #[arg(long, env = "EVENTODB_DB_URL", hide_env_values = true)]
    db_url: String,
}

/// Migrates the registry and the logs of all namespaces.
///
/// # Errors
/// [`Usage`] where the database cannot be used, in one line.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url = args.db_url.parse().map_err(|error| Usage(format!("--db-url: {error}")))?;
    Postgres::migrate(&Settings::new(url)).await.map_err(Usage::new)?;
    writeln!(std::io::stdout(), "the database is up to date")?;
    Ok(ExitCode::SUCCESS)
}
