//! Logs that the database is lost, and that it is back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_store::{Chain, EventStore};

/// How often the database is pinged.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the database has to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a continuing outage is logged again.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Pings the database until the future is dropped.
pub(super) async fn watch(store: Arc<EventStore>) {
    let (mut lost, mut told): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let problem = match tokio::time::timeout(PATIENCE, store.ping()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Chain(&error).to_string()),
            Err(_) => Some(format!("no answer within {} s", PATIENCE.as_secs())),
        };
        match (problem, lost) {
            (None, None) => {}
            (None, Some(since)) => {
                tracing::info!(seconds = since.elapsed().as_secs(), "the database is back");
                (lost, told) = (None, None);
            }
            (Some(error), None) => {
                tracing::error!(error, "the database is lost");
                (lost, told) = (Some(Instant::now()), Some(Instant::now()));
            }
            (Some(error), Some(since)) if told.is_none_or(|told| told.elapsed() >= TELL_EVERY) => {
                tracing::error!(error, seconds = since.elapsed().as_secs(), "the database is still lost");
                told = Some(Instant::now());
            }
            (Some(_), Some(_)) => {}
        }
    }
}
