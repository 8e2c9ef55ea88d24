//! `POST /import`: records in as lines of JSON, progress out as Server-Sent Events.
//!
//! The records are read and stored by a task of their own, batch by batch, whether the client reads
//! of its progress or not. Lines, batches and unread progress are bounded, so that memory does not
//! grow with the body.

mod batch;
mod lines;
mod progress;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_schema::Limits;
use eventodb_store::{EventStore, Log};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

use crate::auth::{self, Caller, Credentials};
use crate::body::Body;
use crate::connection::{Arriving, Busy};
use crate::error::Failure;
use crate::observe::Record as Observed;
use crate::query::Query;
use crate::state::State;
use crate::{cors, linger, reply};
use batch::Batch;
use lines::Lines;
use progress::{Failed, Progress};

/// Answers with the progress of an import.
///
/// # Errors
/// `INVALID_REQUEST`, or why the caller has no namespace. Whatever fails later is an event.
pub(crate) async fn answer(
    state: &State,
    busy: &Busy,
    request: Request<Incoming>,
    record: &mut Observed,
) -> Result<Response<Body>, Failure> {
    let (parts, body) = request.into_parts();
    let wanted = async {
        let query = Query::parse(parts.uri.query())?;
        let caller = auth::authorize(state, &Credentials::of(&parts.headers, &query)).await?;
        Ok((is_forced(&query)?, caller))
    };
    let (force, caller) = match wanted.await {
        Ok(wanted) => wanted,
        Err(failure) => {
            linger::read_on(&parts.headers, body);
            return Err(failure);
        }
    };
    record.namespace = Some(Arc::clone(caller.namespace()));
    let (progress, events) = progress::channel();
    let import = Import {
        store: Arc::clone(&state.store),
        limits: state.config.limits,
        gap: state.config.timeouts.body_gap,
        stopping: state.stopping.clone(),
        progress,
    };
    tokio::spawn(import.run(Arriving::new(body, busy.vitals()), caller, force));
    let mut response = reply::events(Body::stream(events));
    cors::allow(response.headers_mut());
    Ok(response)
}

fn is_forced(query: &Query) -> Result<bool, Failure> {
    match query.get("force") {
        None | Some("false" | "0") => Ok(false),
        Some("true" | "1") => Ok(true),
        Some(_) => Err(Failure::invalid("force must be true or false")),
    }
}

/// One import.
struct Import {
    store: Arc<EventStore>,
    limits: Limits,
    /// How long the next bytes may take.
    gap: Duration,
    stopping: CancellationToken,
    progress: Progress,
}

impl Import {
    async fn run(mut self, body: Arriving<Incoming>, caller: Caller, force: bool) {
        let started = Instant::now();
        let result = self.take(body, caller, force).await;
        match result {
            Ok(imported) => self.progress.done(imported, started.elapsed()),
            Err(failed) => {
                tracing::info!(code = failed.code.as_str(), line = failed.line, "an import failed");
                self.progress.failed(&failed);
            }
        }
    }

    /// Stores all records; how many there were.
    async fn take(&mut self, body: Arriving<Incoming>, caller: Caller, force: bool) -> Result<u64, Failed> {
        let mut lines = Lines::new(body, self.limits.body_bytes, self.gap);
        let result = self.take_lines(&mut lines, caller, force).await;
        if let (Err(_), Some(rest)) = (&result, lines.into_rest()) {
            linger::read_on(&HeaderMap::new(), rest.into_inner());
        }
        result
    }

    async fn take_lines(
        &mut self,
        lines: &mut Lines<Arriving<Incoming>>,
        caller: Caller,
        force: bool,
    ) -> Result<u64, Failed> {
        let log = if force { self.empty(&caller).await? } else { caller.log };
        let mut batch = Batch::new(self.limits);
        let mut imported = 0;
        loop {
            let next = self.stopping.run_until_cancelled(lines.next()).await;
            let Some((number, line)) = next.ok_or_else(|| Failed::stopping(lines.number() + 1))?? else { break };
            batch.add(number, &line)?;
            if batch.is_full() {
                imported += self.store(&log, &mut batch, imported).await?;
            }
        }
        if !batch.is_empty() {
            imported += self.store(&log, &mut batch, imported).await?;
        }
        Ok(imported)
    }

    async fn empty(&self, caller: &Caller) -> Result<Arc<Log>, Failed> {
        self.store.empty(caller.namespace()).await.map_err(|error| Failed::of_store(error, 0))
    }

    /// Stores a batch and tells of it; how many records it had.
    async fn store(&mut self, log: &Arc<Log>, batch: &mut Batch, before: u64) -> Result<u64, Failed> {
        let (records, places) = batch.take();
        let (first, last) = (places.first().copied().unwrap_or(0), places.last().copied().unwrap_or(0));
        let count = records.len() as u64;
        let head = log.import(records).await.map_err(|error| match error {
            eventodb_store::Error::PositionExists(place) => {
                Failed::position_exists(places.get(place).copied().unwrap_or(last))
            }
            error => Failed::of_store(error, first),
        })?;
        self.progress.imported(before + count, head);
        Ok(count)
    }
}
