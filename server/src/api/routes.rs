//! The paths, and what is behind each.

use std::time::Instant;

use eventodb_protocol::ErrorCode;
use http::{Method, Request, Response};

use crate::api::errors::{self, Failure};
use crate::api::headers::awaits_leave;
use crate::api::state::State;
use crate::api::{cors, import, origin, probes, rpc, subscribe};
use crate::http::{Answer, Arriving, Body, Exchange, Exhausted, Patience};
use crate::observe::Record;

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
pub(crate) async fn answer(state: &State, exchange: &Exchange, request: Request<Arriving>, started: Instant) -> Answer {
    let Some(route) = ROUTES.iter().find(|route| route.path == request.uri().path()) else {
        let failure = Failure::new(ErrorCode::NotFound, "there is nothing at this path");
        return Answer::Reply(refuse(state, exchange, request, failure, &Record::new("unknown path", started)));
    };
    if request.method() == Method::OPTIONS {
        return Answer::Reply(cors::preflight(route.verbs));
    }
    let mut record = Record::new(route.path, started);
    if !route.verbs.split(", ").any(|verb| verb == request.method().as_str()) {
        return Answer::Reply(refuse(state, exchange, request, Failure::wrong_verb(route.verbs), &record));
    }
    let result = match route.target {
        Target::Calls => return Answer::Reply(rpc::answer(state, exchange, request, started).await),
        Target::Subscribe => match subscribe::answer(state, exchange, request, &mut record).await {
            Ok(events) => return Answer::Stream(errors::finish(&state.log, &record, Ok(events))),
            Err(failure) => Err(failure),
        },
        Target::Import => import::answer(state, exchange, request, &mut record).await,
        Target::Health | Target::Ready | Target::Version if exchange.admit().is_err() => Err(Exhausted.into()),
        Target::Health => Ok(probes::health()),
        Target::Ready => probes::ready(state, request.uri().query()).await,
        Target::Version => Ok(probes::version()),
    };
    Answer::Reply(errors::finish(&state.log, &record, result))
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
        _ => origin::check(&state.config.pages, request),
    }
}

/// Answers a request whose body nobody wants.
pub(crate) fn refuse(
    state: &State,
    exchange: &Exchange,
    request: Request<Arriving>,
    failure: Failure,
    record: &Record,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    if !awaits_leave(&parts.headers) {
        exchange.linger().read_on(body, Patience::STRANGER);
    }
    errors::finish(&state.log, record, Err(failure))
}
