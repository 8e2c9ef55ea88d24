//! Calls: a JSON array with a method's name and its arguments, answered with bare JSON.
//!
//! Each method has a file; the table below is the only other place that knows them. The beginning of a body tells its
//! method. What the method needs of its caller is checked before the body is parsed, so that a refusal costs little. Then
//! the body is looked at twice and no more: is it well-formed JSON, where do its arguments begin.

mod append;
mod category_get;
mod context;
mod group;
mod listing;
mod message_get;
mod ns_categories;
mod ns_create;
mod ns_delete;
mod ns_info;
mod ns_list;
mod ns_streams;
mod ns_update;
mod page;
mod receive;
mod stream_append;
mod stream_get;
mod stream_last;
mod stream_version;
mod stream_write;
mod streams_append;
mod sys_config;
mod sys_health;
mod sys_version;
mod token;
mod token_create;
mod token_list;
mod token_revoke;
mod token_rotate;

use std::borrow::Cow;
use std::panic;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use eventodb_protocol::request::Call;
use eventodb_protocol::spelling::{self, Shown};
use eventodb_protocol::{ErrorCode, Right, json};
use http::request::Parts;
use http::{HeaderName, Request};
use http_body::Body;

use self::context::Context;
use crate::api::arrival::Arrival;
use crate::api::auth::{Credentials, Need};
use crate::api::conclusion::conclude;
use crate::api::errors::Failure;
use crate::api::headers::awaits_leave;
use crate::api::methods::method;
use crate::api::query::Query;
use crate::api::state::AppState;
use crate::http::{Exchange, Upload};
use crate::observe::Record;

const X_EVENTODB_TOKEN: HeaderName = HeaderName::from_static("x-eventodb-token");
/// Where calls are sent.
pub(super) const PATH: &str = "/rpc";
/// What the query string of a call may have.
const PARAMETERS: &[&str] = &["token"];

/// Declares the methods: `"name" => file, need;`. A method's function gets its caller only as what the need comes to, so
/// that none can be without one. Each is boxed: a call that waits does not take the room of the largest.
macro_rules! methods {
    (@need nothing) => { Need::Nothing };
    (@need own $right:ident) => { Need::Own(Right::$right) };
    (@need named $right:ident) => { Need::Named(Right::$right) };
    (@need administrator) => { Need::Administrator };
    ($($name:literal => $($module:ident)::+, $need:ident $(($right:ident))?;)*) => {
        /// Every method, by the name that a call has for it.
        pub const METHODS: &[&str] = &[$($name,)*];

        /// What each of [`METHODS`] needs, in their order.
        pub const NEEDS: &[Need] = &[$(methods!(@need $need $($right)?),)*];

        fn is_administrative(name: &str) -> bool {
            match name {
                $($name => const { methods!(@need $need $($right)?).is_administrative() },)*
                _ => false,
            }
        }

        async fn dispatch(context: &mut Context<'_>, name: &str, body: &str) -> Result<Response, Failure> {
            match name {
                $($name => {
                    context.record.method = const { method($name) };
                    Box::pin(async {
                        let caller = context.$need($(Right::$right)?).await?;
                        let compact = compact(body)?;
                        $($module)::+::answer(context, caller, &mut Call::parse(&compact)?).await
                    })
                    .await
                })*
                unknown => {
                    // What is wrong with the body is told first.
                    Call::parse(&compact(body)?)?;
                    Err(no_method(unknown))
                }
            }
        }
    };
}

methods! {
    "stream.write" => stream_write, own(Write);
    "stream.append" => stream_append, own(Write);
    "streams.append" => streams_append, own(Write);
    "stream.get" => stream_get, own(Read);
    "stream.last" => stream_last, own(Read);
    "stream.version" => stream_version, own(Read);
    "category.get" => category_get, own(Read);
    "message.get" => message_get, own(Read);
    "ns.create" => ns_create, administrator;
    "ns.delete" => ns_delete, named(Admin);
    "ns.update" => ns_update, named(Admin);
    "ns.list" => ns_list, administrator;
    "ns.info" => ns_info, named(Read);
    "ns.streams" => ns_streams, own(Read);
    "ns.categories" => ns_categories, own(Read);
    "token.create" => token_create, own(Admin);
    "token.list" => token_list, own(Admin);
    "token.revoke" => token_revoke, own(Admin);
    "token.rotate" => token_rotate, own(Admin);
    "group.create" => group::create, own(Consume);
    "group.update" => group::update, own(Admin);
    "group.delete" => group::delete, own(Admin);
    "group.list" => group::list, own(Read);
    "group.status" => group::status, own(Read);
    "group.pause" => group::pause, own(Admin);
    "group.resume" => group::resume, own(Admin);
    "group.resize" => group::resize, own(Admin);
    "group.reset" => group::reset, own(Admin);
    "group.join" => group::join, own(Consume);
    "group.heartbeat" => group::heartbeat, own(Consume);
    "group.read" => group::read, own(Consume);
    "group.park" => group::park, own(Consume);
    "group.handled" => group::handled, own(Consume);
    "group.leave" => group::leave, own(Consume);
    "group.parked" => group::parked, own(Read);
    "group.retry" => group::retry, own(Admin);
    "group.skip" => group::skip, own(Admin);
    "group.audit" => group::audit, own(Read);
    "group.wait" => group::wait, own(Read);
    "sys.version" => sys_version, nothing;
    "sys.health" => sys_health, nothing;
    "sys.config" => sys_config, administrator;
}

#[cold]
fn no_method(name: &str) -> Failure {
    let nearest = spelling::nearest(name, METHODS).unwrap_or_default();
    let message = format!("there is no method {}; did you mean {nearest}?", Shown(name));
    Failure::new(ErrorCode::MethodNotFound, message)
}

/// Answers a call. Thousands may wait: what is done with the request's head is done at once, so that none keeps it.
pub(super) fn answer<B>(
    state: &Arc<AppState>,
    arrival: Arrival,
    request: Request<B>,
) -> impl Future<Output = Response> + Send + use<'_, B>
where
    B: Body<Data = Bytes, Error: Send> + Send + Unpin + 'static,
{
    let mut record = arrival.record(const { method("unknown call") });
    let (parts, mut body) = request.into_parts();
    record.trace = state.spans.begin(&parts.headers);
    let credentials = credentials(&parts);
    let awaits_leave = awaits_leave(&parts.headers);
    drop(parts);
    async move {
        match receive::call(state, &arrival.exchange, &credentials, &mut body, arrival.started).await {
            Ok(body) if is_of_administrator(&body) => {
                // Boxed, because it is rare: all calls would carry the room for it.
                Box::pin(to_its_end(state, Received { arrival, credentials, body, record })).await
            }
            Ok(body) => {
                let result = perform(state, &arrival.exchange, &credentials, &body, &mut record).await;
                with_token(state, &credentials, conclude(state, &arrival, record, result))
            }
            Err(refused) => {
                if !awaits_leave {
                    arrival.exchange.linger().read_on(body, refused.patience);
                }
                let response = conclude(state, &arrival, record, Err(refused.failure));
                with_token(state, &credentials, response)
            }
        }
    }
}

/// A call that is here whole.
struct Received {
    arrival: Arrival,
    credentials: Result<Credentials, Failure>,
    body: Upload,
    record: Record,
}

impl Received {
    async fn answer(self, state: &AppState) -> Response {
        let Self { arrival, credentials, body, mut record } = self;
        let result = perform(state, &arrival.exchange, &credentials, &body, &mut record).await;
        with_token(state, &credentials, conclude(state, &arrival, record, result))
    }
}

/// Whether a call is of a method that needs the right `admin`.
fn is_of_administrator(body: &Upload) -> bool {
    Call::method_of(body.as_slice()).is_some_and(|name| is_administrative(&name))
}

/// Answers a call in a task of its own, so that the act comes to its end although the client may be gone: HTTP/2 drops the
/// future of such a request. Behind the commit of an act, what a token opened is ended and the audit gets its line.
async fn to_its_end(state: &Arc<AppState>, call: Received) -> Response {
    let of_task = Arc::clone(state);
    let task = state.acts.spawn(async move { call.answer(&of_task).await });
    task.await.unwrap_or_else(|error| panic::resume_unwind(error.into_panic()))
}

/// In test mode, the reply to a call without a token shows one.
fn with_token(state: &AppState, credentials: &Result<Credentials, Failure>, mut response: Response) -> Response {
    if let (Some(token), Ok(Credentials::None)) = (&state.default_token, credentials) {
        response.headers_mut().insert(X_EVENTODB_TOKEN, token.clone());
    }
    response
}

fn credentials(parts: &Parts) -> Result<Credentials, Failure> {
    match parts.uri.query() {
        None => Ok(Credentials::from_header(&parts.headers)),
        Some(query) => Query::parse(Some(query), PARAMETERS).map(|query| Credentials::of(&parts.headers, &query)),
    }
}

async fn perform(
    state: &AppState,
    exchange: &Exchange,
    credentials: &Result<Credentials, Failure>,
    upload: &Upload,
    record: &mut Record,
) -> Result<Response, Failure> {
    record.bytes_in = Some(upload.as_slice().len());
    let credentials = credentials.as_ref().map_err(Failure::clone)?;
    let body = std::str::from_utf8(upload.as_slice()).map_err(|_| Failure::invalid("the body must be valid UTF-8"))?;
    let mut context = Context { state, exchange, credentials, record };
    match Call::method_of(upload.as_slice()) {
        Some(name) => dispatch(&mut context, &name, body).await,
        // It is no call. What is wrong with it is told.
        None => dispatch(&mut context, Call::parse(&compact(body)?)?.method(), body).await,
    }
}

fn compact(body: &str) -> Result<Cow<'_, str>, Failure> {
    json::compact(body).map_err(|error| Failure::invalid(format!("the body must be well-formed JSON: {error}")))
}
