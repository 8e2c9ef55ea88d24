//! A call's body. How much of it is read depends on the token, which is checked before the body is read.
//!
//! Most bodies are small and arrive together with their head. They are handed on as they are, and the method checks the
//! token. For every other body the token is checked first: without a valid one a client may send only what `sys.*`
//! needs, in the time that a head has, and with the small part of the memory that strangers share.

use std::time::Instant;

use bytes::Bytes;
use http_body::Body;

use crate::api::auth::{self, Credentials};
use crate::api::errors::Failure;
use crate::api::state::AppState;
use crate::http::{Beginning, Broken, Exchange, Patience, SMALL, Terms, Upload, upload};

/// Why a body was not read to its end, and what is done with the rest of it.
pub(super) struct Refused {
    pub(super) failure: Failure,
    pub(super) patience: Patience,
}

/// Reads the body of a call.
pub(super) async fn call<B: Body<Data = Bytes> + Unpin>(
    state: &AppState,
    exchange: &Exchange,
    credentials: &Result<Credentials, Failure>,
    body: &mut B,
    started: Instant,
) -> Result<Upload, Refused> {
    let mut begun = None;
    if !exchange.is_http2() && body.size_hint().lower() <= SMALL as u64 {
        match upload::begin(body).await.map_err(|broken| of_stranger(broken.into()))? {
            Beginning::Whole(upload) => return Ok(upload),
            Beginning::Part(first) => begun = Some(first),
        }
    }
    let first = begun.unwrap_or_default();
    // Boxed, because it is rare: all requests would carry the room for it.
    Box::pin(rest(state, exchange, credentials, first, body, started)).await
}

/// Reads the rest of a body, of which the first bytes are here.
async fn rest<B: Body<Data = Bytes> + Unpin>(
    state: &AppState,
    exchange: &Exchange,
    credentials: &Result<Credentials, Failure>,
    first: Bytes,
    body: &mut B,
    started: Instant,
) -> Result<Upload, Refused> {
    match identify(state, exchange, credentials).await {
        Ok(()) => known(state, exchange, first, body, started).await,
        Err(failure) => stranger(state, exchange, failure, first, body, started).await,
    }
}

/// Counts the request to the namespace of its token.
async fn identify(
    state: &AppState,
    exchange: &Exchange,
    credentials: &Result<Credentials, Failure>,
) -> Result<(), Failure> {
    let credentials = credentials.as_ref().map_err(Failure::clone)?;
    auth::identify(state, credentials, exchange).await
}

async fn known<B: Body<Data = Bytes> + Unpin>(
    state: &AppState,
    exchange: &Exchange,
    first: Bytes,
    body: &mut B,
    started: Instant,
) -> Result<Upload, Refused> {
    let of_known = |failure| Refused { failure, patience: Patience::KNOWN };
    exchange.admit().map_err(|exhausted| of_known(exhausted.into()))?;
    let timeouts = &state.config.timeouts;
    let most = state.config.limits.body_bytes;
    let terms = Terms { most, gap: timeouts.body_gap, total: timeouts.body_total, started };
    upload::finish(first, body, &terms, exchange.account()).await.map_err(|broken| of_known(broken.into()))
}

/// `failure` says why it is a stranger's.
async fn stranger<B: Body<Data = Bytes> + Unpin>(
    state: &AppState,
    exchange: &Exchange,
    failure: Failure,
    first: Bytes,
    body: &mut B,
    started: Instant,
) -> Result<Upload, Refused> {
    exchange.admit().map_err(|exhausted| of_stranger(exhausted.into()))?;
    let timeouts = &state.config.timeouts;
    let total = timeouts.body_total.min(timeouts.head);
    let most = SMALL.min(state.config.limits.body_bytes);
    let terms = Terms { most, gap: timeouts.body_gap, total, started };
    exchange.set_stranger(true);
    let upload = upload::finish(first, body, &terms, exchange.account()).await;
    exchange.set_stranger(false);
    upload.map_err(|broken| {
        of_stranger(if matches!(broken, Broken::TooLarge(_)) { failure.closing() } else { broken.into() })
    })
}

fn of_stranger(failure: Failure) -> Refused {
    Refused { failure, patience: Patience::STRANGER }
}
