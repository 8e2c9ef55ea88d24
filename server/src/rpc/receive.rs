//! A call's body: whose it is, and so how much of it is read, is decided before it is.
//!
//! Most bodies are small and here together with their head; they are handed on as they are, and the method asks for
//! the token. Of everything else the token is looked at first: who has shown no valid one may send what `sys.*` needs,
//! in the time that a head has, from the small part of the memory that strangers share.

use std::time::Instant;

use http_body::Body as _;
use hyper::body::Incoming;

use crate::auth::{self, Credentials};
use crate::budget::SMALL;
use crate::connection::{Arriving, Busy};
use crate::error::Failure;
use crate::linger::{self, Patience};
use crate::state::State;
use crate::upload::{self, Beginning, Terms, Upload};

/// Why a body was not read to its end, and what is done with the rest of it.
pub(super) struct Refused {
    pub(super) failure: Failure,
    pub(super) patience: Patience,
}

/// Reads the body of a call.
pub(super) async fn call(
    state: &State,
    busy: &Busy,
    credentials: &Result<Credentials, Failure>,
    body: &mut Arriving<Incoming>,
    started: Instant,
) -> Result<Upload, Refused> {
    let mut begun = None;
    if !busy.vitals().is_http2() && body.size_hint().lower() <= SMALL as u64 {
        match upload::begin(body).await.map_err(of_stranger)? {
            Beginning::Whole(upload) => return Ok(upload),
            Beginning::Part(first) => begun = Some(first),
        }
    }
    let first = begun.unwrap_or_default();
    match identify(state, busy, credentials).await {
        Ok(()) => known(state, busy, first, body, started).await,
        Err(failure) => stranger(state, busy, failure, first, body, started).await,
    }
}

/// Counts the request to the namespace of its token.
async fn identify(state: &State, busy: &Busy, credentials: &Result<Credentials, Failure>) -> Result<(), Failure> {
    let credentials = credentials.as_ref().map_err(Failure::clone)?;
    Ok(busy.belongs_to(&auth::namespace(state, credentials).await?)?)
}

async fn known(
    state: &State,
    busy: &Busy,
    first: bytes::Bytes,
    body: &mut Arriving<Incoming>,
    started: Instant,
) -> Result<Upload, Refused> {
    let of_known = |failure| Refused { failure, patience: linger::KNOWN };
    busy.admit().map_err(|exhausted| of_known(exhausted.into()))?;
    let timeouts = &state.config.timeouts;
    let most = state.config.limits.body_bytes;
    let terms = Terms { most, gap: timeouts.body_gap, total: timeouts.body_total, started };
    upload::finish(first, body, &terms, busy.account()).await.map_err(of_known)
}

/// `failure` says why it is a stranger's.
async fn stranger(
    state: &State,
    busy: &Busy,
    failure: Failure,
    first: bytes::Bytes,
    body: &mut Arriving<Incoming>,
    started: Instant,
) -> Result<Upload, Refused> {
    busy.admit().map_err(|exhausted| of_stranger(exhausted.into()))?;
    let timeouts = &state.config.timeouts;
    let total = timeouts.body_total.min(timeouts.head);
    let most = SMALL.min(state.config.limits.body_bytes);
    let terms = Terms { most, gap: timeouts.body_gap, total, started };
    busy.vitals().set_stranger(true);
    let upload = upload::finish(first, body, &terms, busy.account()).await;
    busy.vitals().set_stranger(false);
    upload.map_err(|refusal| {
        let is_too_large = refusal.code() == eventodb_protocol::ErrorCode::PayloadTooLarge;
        of_stranger(if is_too_large { failure.closing() } else { refusal })
    })
}

fn of_stranger(failure: Failure) -> Refused {
    Refused { failure, patience: linger::STRANGER }
}
