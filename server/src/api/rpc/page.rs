//! What the reading methods share: a page as a reply.
//!
//! A page that the store has gathered is one reply with a length. A larger one is sent while it is
//! read, one chunk in memory at a time; if reading it fails then, the reply is cut off.

use async_stream::try_stream;
use axum::response::Response;
use std::time::Duration;

use bytes::Bytes;
use eventodb_protocol::request::Read;
use eventodb_protocol::wire::Form;
use eventodb_store::Chain;
use eventodb_store::Page;
use eventodb_store::log::Chunk;
use futures_util::Stream;
use http::{HeaderName, HeaderValue};

use super::context::Context;
use crate::api::auth::{self, Caller};
use crate::api::errors::Failure;
use crate::api::memory;
use crate::api::reply::{self, Aborted};
use crate::http::{Account, Exhausted, Permit, RequestId};

const X_EVENTODB_HEAD: HeaderName = HeaderName::from_static("x-eventodb-head");

/// What a message has in JSON beside its text: id, positions, time, quotes and commas.
const FRAME: usize = 128;
/// What the next piece of a page that is sent while it is read is expected to take, read and as JSON.
const PIECE: usize = 512 * 1024;

/// Reads a page, whose scope the caller may read, and answers with it.
pub(super) async fn answer(
    context: &mut Context<'_>,
    caller: &Caller,
    read: Read,
    form: Form,
) -> Result<Response, Failure> {
    context.record.wait = read.wait;
    let mut memory = Memory::new(context.exchange.account());
    let mut page = open(context, caller, read, &mut memory).await?;
    let head = page.head();
    let mut response = if page.is_gathered() {
        reply::text(gathered(&mut page, form, memory).await?)
    } else {
        let (caller, id) = (caller.clone(), context.record.id.clone());
        reply::streamed(pieces(Rest { page, form, caller, memory: memory.of_what_follows()?, id }))
    };
    if let Some(head) = head {
        response.headers_mut().insert(X_EVENTODB_HEAD, HeaderValue::from(head));
    }
    Ok(response)
}

/// The memory of a page. The connection's or the request's own memory covers a small page.
pub(super) struct Memory<'a> {
    account: &'a Account,
    permit: Option<Permit>,
}

impl<'a> Memory<'a> {
    pub(super) fn new(account: &'a Account) -> Self {
        Self { account, permit: None }
    }

    /// Takes memory for this many bytes in all.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), Exhausted> {
        match &mut self.permit {
            Some(permit) => permit.hold(bytes),
            None => {
                self.permit = self.account.take_if_large(bytes)?;
                Ok(())
            }
        }
    }

    /// The memory of a page that is sent while it is read.
    fn of_what_follows(self) -> Result<Permit, Exhausted> {
        self.permit.map_or_else(|| self.account.take(0), Ok)
    }
}

/// A page that is gathered, as JSON.
async fn gathered(page: &mut Page, form: Form, mut memory: Memory<'_>) -> Result<Vec<u8>, Failure> {
    let expected = page.bytes() + FRAME * page.len();
    memory.hold(page.bytes() + expected)?;
    let mut json = Vec::with_capacity(expected.max(2));
    json.push(b'[');
    while let Some(chunk) = page.next().await? {
        write(&mut json, &chunk, form);
    }
    json.push(b']');
    Ok(json)
}

/// A read that waits for a message stops waiting when the server stops, and fails when the token of its caller ends.
async fn open(context: &Context<'_>, caller: &Caller, read: Read, memory: &mut Memory<'_>) -> Result<Page, Failure> {
    let log = caller.log();
    let mut room = |bytes| memory.hold(bytes).is_ok();
    if read.wait.is_zero() {
        return Ok(log.read_within(read, room).await?);
    }
    let _place = context.state.place_to_wait(&log.namespace().name, context.credentials.token())?;
    let _filter = context.exchange.account().take_if_large(memory::of_filter(&read.filter))?;
    let at_once = Read { wait: Duration::ZERO, ..read.clone() };
    tokio::select! {
        biased;
        () = caller.ended() => return Err(auth::ended()),
        page = log.read_within(read, &mut room) => return Ok(page?),
        () = context.state.stopping.cancelled() => {}
    }
    Ok(log.read_within(at_once, room).await?)
}

/// Appends a chunk to the array that `json` begins, or goes on with.
fn write(json: &mut Vec<u8>, chunk: &Chunk, form: Form) {
    if json.as_slice() != b"[" {
        json.push(b',');
    }
    chunk.write(json, form);
}

/// What is left of a page that is sent while it is read.
struct Rest {
    page: Page,
    form: Form,
    caller: Caller,
    /// Has what is gathered of the page.
    memory: Permit,
    id: RequestId,
}

/// A page piece by piece.
fn pieces(mut rest: Rest) -> impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static {
    try_stream! {
        let mut json = Vec::from(b"[");
        while let Some(chunk) = rest.next().await? {
            json.reserve(chunk.bytes() + FRAME * chunk.len());
            write(&mut json, &chunk, rest.form);
            yield std::mem::take(&mut json).into();
        }
        json.push(b']');
        yield json.into();
    }
}

impl Rest {
    /// The next chunk, once there is room for it. The HTTP layer counts it from when it is handed over.
    async fn next(&mut self) -> Result<Option<Chunk>, Aborted> {
        let _room = self.memory.account().wait(PIECE).await;
        if self.caller.has_ended() {
            tracing::debug!(
                request_id = &*self.id.to_string(),
                "a reply is cut off: the token of its caller has ended"
            );
            return Err(Aborted);
        }
        let chunk = self.page.next().await.map_err(|error| {
            let request_id = &*self.id.to_string();
            tracing::error!(error = %Chain(&error), request_id, "a reply is cut off: the rest of its page cannot be read");
            Aborted
        })?;
        self.memory.shrink_to(self.page.bytes());
        Ok(chunk)
    }
}
