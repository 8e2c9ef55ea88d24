//! `POST /import`: records in as lines of JSON, progress out as Server-Sent Events.
//!
//! A task reads and stores the records batch by batch, whether the client reads the progress or not. Lines, batches and
//! unread progress are bounded, so that memory does not grow with the body. They are counted in the budget, so that memory
//! does not grow with the number of imports. If there is no memory for the next line, the batch is stored as it is; then
//! the import waits for memory, as long as it would wait for its client.

mod batch;
mod lines;
mod pace;
mod progress;
mod record;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use eventodb_protocol::group::GroupsThen;
use eventodb_protocol::{Limits, Right};
use eventodb_store::{Log, Replacement};
use tokio_util::sync::CancellationToken;

use self::batch::Batch;
use self::lines::{Line, Lines, Stop, Terms};
use self::pace::Pace;
use self::progress::{Failed, Progress};
use crate::api::arrival::Arrival;
use crate::api::auth::{Caller, Credentials, refused};
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::headers::awaits_leave;
use crate::api::methods::method;
use crate::api::places::ImportPlace;
use crate::api::query::Query;
use crate::api::state::AppState;
use crate::api::{cors, reply};
use crate::http::{Account, Exchange, Linger, Patience, Permit};
use crate::observe::{Record as Observed, RequestLog};

/// What the query string of an import may have.
const PARAMETERS: &[&str] = &["token", "force", "groups"];

/// What the audit calls an import that replaces everything.
const FORCE: &str = "import?force";

/// The right that an import needs, for all categories. One that replaces everything needs `admin`.
pub(super) const RIGHT: Right = Right::Write;

/// What an import is counted with beside its lines and batch: the piece of its body that is being cut into lines, what
/// the HTTP layer has read behind it, and progress that is not read.
const IMPORT: usize = 128 * 1024;
/// An import that has no memory for its next line tries again at least this often.
const ROOM_PAUSE: Duration = Duration::from_millis(250);

/// Answers with the progress of an import.
pub(super) async fn answer(State(state): State<Arc<AppState>>, arrival: Arrival, request: Request) -> Response {
    let mut record = arrival.record(const { method("/import") });
    let result = import(&state, &arrival.exchange, request, &mut record).await;
    conclude(&state, &arrival, record, result)
}

/// The progress of an import.
///
/// # Errors
/// `INVALID_REQUEST`, why the caller may not import, `OVERLOADED` if there is no place or no memory to begin with, or
/// `BACKEND_UNAVAILABLE` if the namespace is being replaced. A later failure is an event.
async fn import(
    state: &AppState,
    exchange: &Exchange,
    request: Request,
    record: &mut Observed,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    let wanted = async {
        let query = Query::parse(parts.uri.query(), PARAMETERS)?;
        let force = forced(&query);
        let right = if matches!(force, Ok(Some(_))) { Right::Admin } else { RIGHT };
        let caller = Caller::with(right, state, &Credentials::of(&parts.headers, &query), record).await?;
        caller.answers_for(exchange)?;
        exchange.admit()?;
        state.check_takes_changes()?;
        let place = state.places.import(caller.namespace())?;
        let memory = exchange.account().take(IMPORT)?;
        caller.check_everywhere(right)?;
        let force = force?;
        let is_forced = force.is_some();
        let target = Target::open(state, &caller, force).await.inspect_err(|_| {
            if is_forced {
                record.administers(FORCE, caller.namespace());
            }
        })?;
        Ok((target, caller, (place, memory)))
    };
    let (target, caller, held) = match wanted.await {
        Ok(wanted) => wanted,
        Err(failure) => {
            if !awaits_leave(&parts.headers) {
                exchange.linger().read_on(body, Patience::STRANGER);
            }
            return Err(failure);
        }
    };
    let mut record = record.clone();
    if let Target::Replacement(replacement) = &target {
        record.administers(FORCE, &replacement.log().namespace().name);
    }
    let (progress, events) = progress::channel();
    let (limits, timeouts) = (state.config.limits, state.config.timeouts);
    let import = Import {
        limits,
        terms: Terms { most: limits.body_bytes, gap: timeouts.body_gap, line: timeouts.body_total },
        caller,
        stopping: state.stopping.clone(),
        pace: Pace::new(Arc::clone(&state.appends)),
        progress,
        record,
        log: Arc::clone(&state.log),
        account: exchange.account().clone(),
        linger: exchange.linger(),
        starved: None,
        _held: held,
    };
    tokio::spawn(import.run(body, target));
    let mut response = reply::events(events);
    cors::allow(response.headers_mut());
    Ok(response)
}

/// A replacement of what the namespace holds.
struct Force {
    groups: Option<GroupsThen>,
}

fn forced(query: &Query) -> Result<Option<Force>, Failure> {
    let groups = query
        .get("groups")
        .map(|name| GroupsThen::named(name).ok_or_else(|| Failure::invalid("groups must be keep or drop")));
    let groups = groups.transpose()?;
    match query.get("force") {
        None | Some("false" | "0") if groups.is_some() => Err(Failure::invalid("groups needs force=true")),
        None | Some("false" | "0") => Ok(None),
        Some("true" | "1") => Ok(Some(Force { groups })),
        Some(_) => Err(Failure::invalid("force must be true or false")),
    }
}

/// Where the records go.
enum Target {
    /// Behind what the namespace holds.
    Log(Arc<Log>),
    /// Into what takes its place once the last is in.
    Replacement(Replacement),
}

impl Target {
    async fn open(state: &AppState, caller: &Caller, force: Option<Force>) -> Result<Self, Failure> {
        if let Some(Force { groups }) = force {
            let replacement = state.store.replace(caller.own(), groups).await;
            return Ok(Self::Replacement(replacement.map_err(|error| refused(caller.own(), error))?));
        }
        match caller.log().is_being_replaced().await? {
            true => Err(eventodb_store::Error::Replacing.into()),
            false => Ok(Self::Log(Arc::clone(caller.log()))),
        }
    }

    fn log(&self) -> &Arc<Log> {
        match self {
            Self::Log(log) => log,
            Self::Replacement(replacement) => replacement.log(),
        }
    }

    fn is_replacement(&self) -> bool {
        matches!(self, Self::Replacement(_))
    }

    /// All records are in.
    async fn finish(self) -> Result<(), eventodb_store::Error> {
        match self {
            Self::Log(_) => Ok(()),
            Self::Replacement(replacement) => replacement.finish().await,
        }
    }

    /// The import failed. A replacement is given up before the client hears of the failure.
    async fn give_up(self) {
        if let Self::Replacement(replacement) = self {
            replacement.discard().await;
        }
    }
}

/// One import.
struct Import {
    limits: Limits,
    terms: Terms,
    /// The import ends with the token of its caller.
    caller: Caller,
    stopping: CancellationToken,
    pace: Pace,
    progress: Progress,
    /// Of the request.
    record: Observed,
    log: Arc<RequestLog>,
    /// Where lines and batches are counted.
    account: Account,
    linger: Linger,
    /// Since when there is no memory for the next line.
    starved: Option<Instant>,
    _held: (ImportPlace, Permit),
}

impl Import {
    async fn run(mut self, body: Body, target: Target) {
        let started = Instant::now();
        let result = self.take(body, target).await;
        match result {
            Ok(imported) => {
                self.log.import_done(&self.record);
                self.progress.done(imported, started.elapsed());
            }
            Err(failed) => {
                self.log.import_failed(&self.record, failed.code, failed.line, failed.cause.as_ref());
                self.progress.failed(&failed);
            }
        }
    }

    /// Stores all records. Returns how many there were.
    async fn take(&mut self, body: Body, target: Target) -> Result<u64, Failed> {
        let mut lines = Lines::new(body, self.terms.clone(), self.account.clone());
        let result = self.take_lines(&mut lines, target.log()).await;
        let last = lines.number();
        if let (Err(_), Some(rest)) = (&result, lines.into_rest()) {
            self.linger.read_on(rest, Patience::KNOWN);
        }
        match result {
            // What was there must not be replaced any more.
            Ok(_) if target.is_replacement() && self.caller.has_ended() => {
                target.give_up().await;
                Err(Failed::token_ended(last))
            }
            Ok(0) if target.is_replacement() => {
                target.give_up().await;
                Err(Failed::empty(last))
            }
            Ok(imported) => {
                target.finish().await.map_err(|error| Failed::of_store(error, last))?;
                Ok(imported)
            }
            Err(failed) => {
                target.give_up().await;
                Err(failed)
            }
        }
    }

    async fn take_lines(&mut self, lines: &mut Lines<Body>, log: &Arc<Log>) -> Result<u64, Failed> {
        let mut batch = Batch::new(self.limits, &self.account).map_err(|_| Failed::no_room(1))?;
        let mut imported = 0;
        loop {
            match self.next(lines).await {
                Ok(None) => break,
                Ok(Some(line)) => {
                    while batch.make_room(&line).is_err() {
                        imported += self.give_way(log, &mut batch, imported, line.number).await?;
                    }
                    batch.add(&line)?;
                    self.starved = None;
                }
                Err(Stop::NoRoom) => imported += self.give_way(log, &mut batch, imported, lines.number() + 1).await?,
                Err(Stop::Failed(failed)) => return Err(failed),
            }
            if batch.is_full(self.pace.most()) {
                imported += self.store(log, &mut batch, imported).await?;
            }
        }
        if !batch.is_empty() {
            imported += self.store(log, &mut batch, imported).await?;
        }
        Ok(imported)
    }

    async fn next(&self, lines: &mut Lines<Body>) -> Result<Option<Line>, Stop> {
        let line = lines.number() + 1;
        tokio::select! {
            biased;
            failed = self.ended(line) => Err(failed.into()),
            next = lines.next() => next,
        }
    }

    /// There is no memory for the next line: stores the batch as it is, or waits if it is empty. Returns how many records
    /// were stored.
    async fn give_way(&mut self, log: &Arc<Log>, batch: &mut Batch, before: u64, line: u64) -> Result<u64, Failed> {
        if !batch.is_empty() {
            return self.store(log, batch, before).await;
        }
        if self.starved.get_or_insert_with(Instant::now).elapsed() >= self.terms.gap {
            return Err(Failed::no_room(line));
        }
        let room = tokio::time::timeout(ROOM_PAUSE, self.account.given_back());
        tokio::select! {
            biased;
            failed = self.ended(line) => Err(failed),
            _ = room => Ok(0),
        }
    }

    /// Waits for the end of the server or of the caller's token: why the import does not come to `line`.
    async fn ended(&self, line: u64) -> Failed {
        tokio::select! {
            biased;
            () = self.stopping.cancelled() => Failed::stopping(line),
            () = self.caller.ended() => Failed::token_ended(line),
        }
    }

    /// Stores a batch, as soon as the pace lets it, and reports it. Returns how many records it had.
    async fn store(&mut self, log: &Arc<Log>, batch: &mut Batch, before: u64) -> Result<u64, Failed> {
        let (records, places) = batch.take();
        let (first, last) = (places.first().copied().unwrap_or(0), places.last().copied().unwrap_or(0));
        self.rest(first).await?;
        let count = records.len() as u64;
        let begun = Instant::now();
        let stored = log.import(records).await;
        batch.stored();
        let head = stored.map_err(|error| match error {
            eventodb_store::Error::PositionExists(place) => {
                Failed::position_exists(places.get(place).copied().unwrap_or(last))
            }
            error => Failed::of_store(error, first),
        })?;
        self.pace.stored(begun.elapsed());
        self.progress.imported(before + count, head);
        Ok(count)
    }

    /// Waits until the pace lets the next batch be stored, which begins at this line.
    async fn rest(&self, line: u64) -> Result<(), Failed> {
        if self.pace.next() <= Instant::now() {
            return Ok(());
        }
        tokio::select! {
            biased;
            failed = self.ended(line) => Err(failed),
            () = tokio::time::sleep_until(self.pace.next().into()) => Ok(()),
        }
    }
}
