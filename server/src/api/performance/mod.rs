//! `GET /api/v1/performance…`: how many requests there were, how long they took, and which were slow, and what the store
//! tells of itself, as JSON. As for `/metrics`, the database is asked about consumer groups alone, and seldom.

mod store;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use eventodb_protocol::VERSION;
use eventodb_protocol::performance::{Performance, PerformanceReset, Queries, System};
use http::request::Parts;

use self::store::millis;
use crate::api::arrival::Arrival;
use crate::api::auth::{Administrator, Credentials};
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::headers::awaits_leave;
use crate::api::methods::method;
use crate::api::query::Query;
use crate::api::state::AppState;
use crate::api::{operator, reply};
use crate::http::{Exchange, Patience};
use crate::observe::metrics::process::Process;
use crate::observe::{Method, Record, Step};

/// What the query string of a page may have.
const PARAMETERS: &[&str] = &["token", "series"];
/// What the audit calls a reset.
const RESET: &str = "performance.reset";

/// One of the pages.
#[derive(Clone, Copy, Debug)]
pub(super) enum Page {
    Overview,
    Queries,
    Cache,
    Database,
    Groups,
}

/// Answers with a page.
pub(super) async fn answer(
    name: Method,
    page: Page,
    State(state): State<Arc<AppState>>,
    arrival: Arrival,
    request: Parts,
) -> Response {
    let mut record = arrival.record(name);
    let result = show(page, &state, &arrival.exchange, &request, &mut record).await;
    conclude(&state, &arrival, record, result)
}

async fn show(
    page: Page,
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<Response, Failure> {
    operator::check(state, exchange, request, record).await?;
    exchange.admit()?;
    let query = Query::parse(request.uri.query(), PARAMETERS)?;
    Ok(match page {
        Page::Overview => reply::json(&overview(state, &query)?),
        Page::Queries => reply::json(&queries(state)),
        Page::Cache => reply::json(&store::cache(state)),
        Page::Database => reply::json(&store::database(state)),
        Page::Groups => reply::json(&store::groups(state).await),
    })
}

/// `GET /api/v1/performance`.
///
/// # Errors
/// `INVALID_REQUEST` if there is no such series.
fn overview(state: &AppState, query: &Query) -> Result<Performance, Failure> {
    let step = match query.get("series") {
        None => None,
        Some("hour") => Some(Step::Second),
        Some("day") => Some(Step::Minute),
        Some(_) => return Err(Failure::invalid("series must be hour or day")),
    };
    Ok(Performance {
        version: VERSION.to_owned(),
        backend: state.store.backend_kind().to_owned(),
        since: state.finished.performance().since(),
        slow_threshold_ms: millis(state.live.now().slow),
        requests: state.finished.performance().periods(),
        system: system(state),
        series: step.map(|step| state.finished.performance().series(step)),
    })
}

/// `GET /api/v1/performance/queries`.
fn queries(state: &AppState) -> Queries {
    let (recent_slow, top_slow) = state.finished.performance().slow();
    Queries {
        since: state.finished.performance().since(),
        slow_threshold_ms: millis(state.live.now().slow),
        patterns: state.finished.performance().patterns(),
        recent_slow,
        top_slow,
    }
}

/// `POST /api/v1/performance/reset`. Nobody looks at the body.
pub(super) async fn reset(State(state): State<Arc<AppState>>, arrival: Arrival, request: Request) -> Response {
    let mut record = arrival.record(const { method("/api/v1/performance/reset") });
    let (parts, body) = request.into_parts();
    if !awaits_leave(&parts.headers) {
        arrival.exchange.linger().read_on(body, Patience::STRANGER);
    }
    let result = begin_anew(&state, &arrival.exchange, &parts, &mut record).await;
    conclude(&state, &arrival, record, result)
}

async fn begin_anew(
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<Response, Failure> {
    let query = Query::parse(request.uri.query(), &["token"])?;
    Administrator::check(state, &Credentials::of(&request.headers, &query), record).await?;
    exchange.admit()?;
    record.administers(RESET, "requests");
    state.finished.performance().reset();
    Ok(reply::json(&PerformanceReset { since: state.finished.performance().since() }))
}

fn system(state: &AppState) -> System {
    let process = Process::read();
    System {
        uptime_seconds: state.finished.performance().uptime().as_secs_f64(),
        cpu_seconds: process.cpu_seconds.unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(0, |cpus| cpus.get() as u64),
        resident_bytes: process.resident_bytes.unwrap_or_default(),
        virtual_bytes: process.virtual_bytes.unwrap_or_default(),
        memory_budget_bytes: state.budget.whole() as u64,
        memory_taken_bytes: state.budget.shares().iter().map(|(_, taken)| *taken as u64).sum(),
        threads: process.threads.unwrap_or_default(),
        open_fds: process.open_fds.unwrap_or_default(),
        connections: state.watch.connections() as u64,
    }
}
