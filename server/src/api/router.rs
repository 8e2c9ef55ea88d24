//! The paths, and what is behind each.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodRouter, get, post};
use eventodb_protocol::ErrorCode;
use http_body::Body;

use crate::api::arrival::Arrival;
use crate::api::auth::Need;
use crate::api::conclusion::{conclude, conclude_unlogged};
use crate::api::errors::Failure;
use crate::api::headers::awaits_leave;
use crate::api::methods::method;
use crate::api::performance::Page;
use crate::api::state::AppState;
use crate::api::{cors, import, metrics, operator, performance, probes, rpc, subscribe};
use crate::http::Patience;
use crate::observe::Method;

/// What a path takes, as `Allow` names it.
type Verbs = &'static str;

const GET: Verbs = "GET, HEAD, OPTIONS";
/// An event stream has no HEAD: it could not be told from a subscription.
const GET_ONLY: Verbs = "GET, OPTIONS";
const POST: Verbs = "POST, OPTIONS";

const HEALTH: [&str; 2] = ["/health", "/health/live"];
const READY: [&str; 2] = ["/health/ready", "/ready"];
const VERSION: &str = "/version";
const SUBSCRIBE: &str = "/subscribe";
const IMPORT: &str = "/import";
const METRICS: &str = "/metrics";
const PERFORMANCE: &str = "/api/v1/performance";
const QUERIES: &str = "/api/v1/performance/queries";
const CACHE: &str = "/api/v1/performance/cache";
const DATABASE: &str = "/api/v1/performance/database";
const GROUPS: &str = "/api/v1/performance/groups";
const RESET: &str = "/api/v1/performance/reset";

/// Every path that is not for calls, and what it needs of a token.
pub const ROUTES: &[(&str, Need)] = &[
    (SUBSCRIBE, Need::Own(subscribe::RIGHT)),
    (IMPORT, Need::Own(import::RIGHT)),
    (METRICS, Need::Own(operator::RIGHT)),
    (PERFORMANCE, Need::Own(operator::RIGHT)),
    (QUERIES, Need::Own(operator::RIGHT)),
    (CACHE, Need::Own(operator::RIGHT)),
    (DATABASE, Need::Own(operator::RIGHT)),
    (GROUPS, Need::Own(operator::RIGHT)),
    (RESET, Need::Administrator),
    (VERSION, Need::Nothing),
    (HEALTH[0], Need::Nothing),
    (HEALTH[1], Need::Nothing),
    (READY[0], Need::Nothing),
    (READY[1], Need::Nothing),
];

/// All paths.
pub(super) fn router(state: &Arc<AppState>) -> Router {
    let call = async |State(state): State<Arc<AppState>>, arrival, request| rpc::answer(&state, arrival, request).await;
    let router = Router::new().route(rpc::PATH, path(rpc::PATH, POST, post(call))).fallback(nowhere);
    let router = ROUTES.iter().fold(router, |router, (name, _)| router.route(name, route(name)));
    router.with_state(Arc::clone(state))
}

/// What answers at one of [`ROUTES`].
fn route(name: &'static str) -> MethodRouter<Arc<AppState>> {
    match name {
        SUBSCRIBE => path(name, GET_ONLY, get(subscribe::answer)),
        IMPORT => path(name, POST, post(import::answer)),
        METRICS => path(name, GET, get(metrics::answer)),
        PERFORMANCE => path(name, GET, page(name, Page::Overview)),
        QUERIES => path(name, GET, page(name, Page::Queries)),
        CACHE => path(name, GET, page(name, Page::Cache)),
        DATABASE => path(name, GET, page(name, Page::Database)),
        GROUPS => path(name, GET, page(name, Page::Groups)),
        RESET => path(name, POST, post(performance::reset)),
        VERSION => path(name, GET, get(probes::version)),
        ready if READY.contains(&ready) => {
            path(name, GET, get(move |state, arrival, query| probes::ready(method(name), state, arrival, query)))
        }
        _ => path(name, GET, get(move |state, arrival| probes::health(method(name), state, arrival))),
    }
}

/// What answers with a page of the performance API.
fn page(name: &'static str, page: Page) -> MethodRouter<Arc<AppState>> {
    get(move |state, arrival, request| performance::answer(method(name), page, state, arrival, request))
}

/// Whether a probe is at this path: everybody may ask it.
pub(super) fn is_probe(path: &str) -> bool {
    HEALTH.contains(&path) || READY.contains(&path) || path == VERSION
}

/// A path that takes these verbs. `methods` answers all of them but OPTIONS.
fn path(name: &'static str, verbs: Verbs, methods: MethodRouter<Arc<AppState>>) -> MethodRouter<Arc<AppState>> {
    let name = method(name);
    let refuse_verb = move |State(state): State<Arc<AppState>>, arrival: Arrival, request: Request| async move {
        refuse(&state, &arrival, request, Failure::wrong_verb(verbs), name)
    };
    let preflight = move |State(state): State<Arc<AppState>>, arrival: Arrival| async move {
        conclude_unlogged(&state, &arrival, const { method("preflight") }, Ok(cors::preflight(verbs)))
    };
    // axum lets GET answer HEAD.
    let methods = if verbs.contains("HEAD") { methods } else { methods.head(refuse_verb) };
    methods.options(preflight).fallback(refuse_verb)
}

async fn nowhere(State(state): State<Arc<AppState>>, arrival: Arrival, request: Request) -> Response {
    let failure = Failure::new(ErrorCode::NotFound, "there is nothing at this path");
    refuse(&state, &arrival, request, failure, const { method("unknown path") })
}

/// Answers a request whose body nobody wants. The request log calls it `name`.
pub(super) fn refuse<B>(
    state: &AppState,
    arrival: &Arrival,
    request: Request<B>,
    failure: Failure,
    name: Method,
) -> Response
where
    B: Body<Data: Send, Error: Send> + Send + Unpin + 'static,
{
    let (parts, body) = request.into_parts();
    if !awaits_leave(&parts.headers) {
        arrival.exchange.linger().read_on(body, Patience::STRANGER);
    }
    conclude(state, arrival, arrival.record(name), Err(failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::methods::NAMES;

    #[test]
    fn each_name_of_a_request_is_used() {
        let known = rpc::METHODS.iter().chain(ROUTES.iter().map(|(path, _)| path));
        let mut names = NAMES.iter();
        for known in known {
            assert_eq!(names.next(), Some(known), "methods and routes stand first, in their order");
        }
        let others: Vec<_> = names.collect();
        assert!(others.iter().all(|name| **name == rpc::PATH || !name.contains(['.', '/'])), "{others:?}");
        assert!(NAMES.iter().enumerate().all(|(at, name)| !NAMES[..at].contains(name)));
    }
}
