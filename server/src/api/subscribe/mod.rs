//! `GET /subscribe`: pokes as Server-Sent Events.
//!
//! The store's subscription does the work: it is a cursor that hands out frames. Here it gets a status, headers and its
//! first frames, at once and before any history is read.

mod frames;
mod request;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use eventodb_protocol::Right;
use eventodb_store::Subscription;
use eventodb_store::log::{Event, Start};
use futures_util::{Stream, StreamExt as _, stream};
use http::request::Parts;
use tokio_util::sync::CancellationToken;

use self::request::Wanted;
use crate::api::arrival::Arrival;
use crate::api::auth::{Caller, Credentials};
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::methods::method;
use crate::api::places::Place;
use crate::api::query::Query;
use crate::api::reply::{self, Aborted, Endless};
use crate::api::state::AppState;
use crate::api::{cors, memory};
use crate::http::{Account, Exchange, Permit, SMALL};
use crate::observe::Record;

/// The right that a subscriber needs, for all categories that it subscribes to.
pub(super) const RIGHT: Right = Right::Read;

/// Answers with a stream of events that ends with the namespace, the token, the server, or the client's leaving.
pub(super) async fn answer(State(state): State<Arc<AppState>>, arrival: Arrival, request: Parts) -> Response {
    let mut record = arrival.record(const { method("/subscribe") });
    let result = subscribe(&state, &arrival.exchange, &request, &mut record).await;
    conclude(&state, &arrival, record, result)
}

/// The stream of events.
///
/// # Errors
/// `INVALID_REQUEST` naming the parameter, or why the caller may not read that.
async fn subscribe(
    state: &AppState,
    exchange: &Exchange,
    request: &Parts,
    record: &mut Record,
) -> Result<Response, Failure> {
    let query = Query::parse(request.uri.query(), request::PARAMETERS)?;
    let credentials = Credentials::of(&request.headers, &query);
    let caller = Caller::with(RIGHT, state, &credentials, record).await?;
    caller.answers_for(exchange)?;
    exchange.admit()?;
    let Wanted { subscribe: mut wanted, time } = request::parse(&query, &request.headers, &state.config)?;
    caller.check_scope(RIGHT, &wanted.filter.scope)?;
    let place = state.place_to_subscribe(caller.namespace(), credentials.token())?;
    let filter = exchange.account().take_if_large(memory::of_filter(&wanted.filter))?;
    if let Some(time) = time {
        // Before the reply, so that its first frames tell the position.
        wanted.start = Start::Global(caller.log().position_at(time).await?);
    }
    let subscription = caller.log().subscribe(wanted);
    let departure = state.departures.join();
    let events = events(subscription, exchange.account().clone(), (place, filter))
        .take_until(async move { caller.ended().await })
        .take_until(async move { departure.is_due().await })
        .chain(farewell(state.stopping.clone()));
    let mut response = reply::events(events);
    response.extensions_mut().insert(Endless);
    cors::allow(response.headers_mut());
    Ok(response)
}

/// What a stream ends with if the reason is that the server stops.
fn farewell(stopping: CancellationToken) -> impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static {
    stream::once(async move { stopping.is_cancelled().then(|| Ok(frames::farewell())) }).filter_map(std::future::ready)
}

/// The events of a subscription, which holds `held` as long as it stays.
fn events(
    mut subscription: Subscription,
    account: Account,
    held: (Place, Option<Permit>),
) -> impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static {
    async_stream::stream! {
        let _held = held;
        yield Ok(frames::opening(subscription.position()));
        loop {
            let event = subscription.next().await;
            let is_last = matches!(event, Event::Damaged(_));
            let frame = match event {
                Event::Pokes(frames) => frames,
                Event::CaughtUp(head) => frames::caught_up(head),
                Event::Heartbeat(head) => frames::heartbeat(head),
                Event::AheadOfHead(head) => frames::ahead_of_head(head),
                Event::Damaged(position) => frames::damaged(position),
                Event::Closed => return,
            };
            if frame.len() > SMALL {
                // Nothing is handed over before there is room for it. The HTTP layer counts it from then on.
                drop(account.wait(frame.len()).await);
            }
            yield Ok(frame);
            if is_last {
                return;
            }
        }
    }
}
