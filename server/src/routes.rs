//! The paths, and what is behind each.

use std::time::Instant;

use eventodb_protocol::ErrorCode;
use http::{Method, Request, Response};
use hyper::body::Incoming;

use crate::body::Body;
use crate::budget::Exhausted;
use crate::connection::Busy;
use crate::error::Failure;
use crate::observe::Record;
use crate::state::State;
use crate::{cors, health, import, linger, rpc, subscribe};

/// A path.
struct Route {
    path: &'static str,
    /// The verbs it takes, as `Allow` names them.
    verbs: &'static str,
    target: Target,
}

/// What is behind a path.
#[derive(Clone, Copy)]
enum Target {
    Calls,
    Subscribe,
    Import,
    Health,
    Ready,
    Version,
}

const GET: &str = "GET, HEAD, OPTIONS";
/// An event stream has no HEAD: there is no telling it from a subscription.
const GET_ONLY: &str = "GET, OPTIONS";
const POST: &str = "POST, OPTIONS";

const ROUTES: &[Route] = &[
    Route { path: "/rpc", verbs: POST, target: Target::Calls },
    Route { path: "/subscribe", verbs: GET_ONLY, target: Target::Subscribe },
    Route { path: "/import", verbs: POST, target: Target::Import },
    Route { path: "/health", verbs: GET, target: Target::Health },
    Route { path: "/health/live", verbs: GET, target: Target::Health },
    Route { path: "/health/ready", verbs: GET, target: Target::Ready },
    Route { path: "/ready", verbs: GET, target: Target::Ready },
    Route { path: "/version", verbs: GET, target: Target::Version },
];

/// Answers any request.
pub(crate) async fn answer(state: &State, busy: &Busy, request: Request<Incoming>, started: Instant) -> Response<Body> {
    let Some(route) = ROUTES.iter().find(|route| route.path == request.uri().path()) else {
        let failure = Failure::new(ErrorCode::NotFound, "there is nothing at this path");
        return refuse(state, request, failure, Record::new("unknown path", started));
    };
    if request.method() == Method::OPTIONS {
        return cors::preflight(route.verbs);
    }
    let mut record = Record::new(route.path, started);
    if !route.verbs.split(", ").any(|verb| verb == request.method().as_str()) {
        return refuse(state, request, Failure::wrong_verb(route.verbs), record);
    }
    let result = match route.target {
        Target::Calls => return rpc::answer(state, busy, request, started).await,
        Target::Subscribe => subscribe::answer(state, busy, request, &mut record).await,
        Target::Import => import::answer(state, busy, request, &mut record).await,
        Target::Health | Target::Ready | Target::Version if busy.admit().is_err() => Err(Exhausted.into()),
        Target::Health => Ok(health::health()),
        Target::Ready => health::ready(state, request.uri().query()).await,
        Target::Version => Ok(health::version()),
    };
    record.finish(state, result)
}

/// In test mode: whether a request to this path may come from where it does. Probes may come from anywhere.
///
/// # Errors
/// `AUTH_UNAUTHORIZED`.
pub(crate) fn check_sender<B>(state: &State, request: &Request<B>) -> Result<(), Failure> {
    let path = request.uri().path();
    let target = ROUTES.iter().find(|route| route.path == path).map(|route| route.target);
    match target {
        Some(Target::Health | Target::Ready | Target::Version) => Ok(()),
        _ => state.config.pages.check(request),
    }
}

/// Answers a request whose body nobody wants.
pub(crate) fn refuse(state: &State, request: Request<Incoming>, failure: Failure, record: Record) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if !linger::awaits_leave(&parts.headers) {
        linger::read_on(body, linger::STRANGER);
    }
    record.finish(state, Err(failure))
}
