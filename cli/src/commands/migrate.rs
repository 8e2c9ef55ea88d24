//! `eventodb migrate`: migrates a PostgreSQL database, for operators who run servers with `--auto-migrate=false`.

use std::process::ExitCode;

use eventodb_protocol::VERSION;
use eventodb_store::postgres::{Postgres, STATEMENT_TIME, SchemaState, Settings, Survey, UrlError};
use serde_json::json;

use super::output::{Output, finish};
use crate::serve;
use crate::usage::{Refused, Usage};

/// Flags of `migrate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    database: serve::Database,
    /// Only say what would be done, about how long it takes, and which versions may use the database then. Nothing is changed. The
    /// exit code is 0 also if there is something to do.
    #[arg(long)]
    check: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Migrates the registry and the logs of all namespaces.
///
/// # Errors
/// [`Usage`] and [`Refused`] if the database cannot be used.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let url = args.database.url()?.ok_or_else(|| Usage::new("--db-url or --db-url-file must name the database"))?;
    let url = url.parse().map_err(|error: UrlError| Usage::at("db-url", error))?;
    let (settings, mut output) = (Settings::new(url), Output::new(args.json));
    let refused = |error| Refused::new(serve::of_postgres(&error), error);
    let printed = if args.check {
        let survey = Postgres::survey(&settings).await.map_err(refused)?;
        tell(&survey, &mut output)
    } else {
        Postgres::migrate(&settings).await.map_err(refused)?;
        output.value(&json!({ "upToDate": true }), || "the database is up to date".to_owned())
    };
    finish(printed, output)
}

fn tell(survey: &Survey, output: &mut Output) -> anyhow::Result<()> {
    let Survey { schemas, round_trip } = survey;
    let lacking = schemas.iter().filter(|state| state.needs_migration()).count();
    let estimate = format!(
        "{} statements, each about {} ms and a question to this database ({} µs); none of the steps reads messages, so that \
         their number does not matter; a table that somebody has locked is waited for",
        survey.statements(),
        STATEMENT_TIME.as_millis(),
        round_trip.as_micros()
    );
    let json = json!({
        "version": VERSION,
        "schemas": schemas,
        "toMigrate": lacking,
        "statements": survey.statements(),
        "estimateMs": u64::try_from(survey.estimate().as_millis()).unwrap_or(u64::MAX),
        "estimatedBy": estimate,
    });
    output.table(&json, &["SCHEMA", "STEPS", "FROM VERSION", "THEN"], &schemas.iter().map(row).collect::<Vec<_>>())?;
    if let Some(newer) = schemas.iter().find(|state| state.is_newer) {
        let needs = &newer.oldest_version_then;
        return output.note(&format!("schema {} needs version {needs} or newer, this is {VERSION}", newer.schema));
    }
    match lacking {
        0 => output.note("the database is up to date: nothing would be done"),
        _ => {
            output.note(&format!("{lacking} schemas would be migrated, each in one transaction"))?;
            output.note(&format!("about {:.1} s: {estimate}", survey.estimate().as_secs_f64()))?;
            output.note("servers of the versions under THEN and newer may use the database afterwards, also older than this one")
        }
    }
}

/// Each schema says itself which versions may use it.
fn row(state: &SchemaState) -> Vec<String> {
    let steps = match state.done {
        None => format!("not made, {} steps", state.known),
        Some(done) if done < state.known => format!("{done} of {}", state.known),
        Some(done) => format!("{done}"),
    };
    let now = state.oldest_version.clone().unwrap_or_default();
    vec![state.schema.clone(), steps, now, state.oldest_version_then.clone()]
}
