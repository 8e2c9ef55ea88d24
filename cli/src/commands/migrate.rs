//! `eventodb migrate`: migrates a PostgreSQL database, for operators who run servers with `--auto-migrate=false`.

use std::io::Write as _;
use std::process::ExitCode;

use eventodb_store::postgres::{Postgres, Settings, UrlError};

use crate::serve;
use crate::usage::{Refused, Usage};

/// Flags of `migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: serve::Database,
}

/// Migrates the registry and the logs of all namespaces.
///
/// # Errors
/// [`Usage`] and [`Refused`] if the database cannot be used.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url = args.database.url()?.ok_or_else(|| Usage::new("--db-url or --db-url-file must name the database"))?;
    let url = url.parse().map_err(|error: UrlError| Usage::at("db-url", error))?;
    let migrated = Postgres::migrate(&Settings::new(url)).await;
    migrated.map_err(|error| Refused::new(serve::of_postgres(&error), error))?;
    writeln!(std::io::stdout(), "the database is up to date")?;
    Ok(ExitCode::SUCCESS)
}
