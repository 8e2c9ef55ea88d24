//! What the reading methods share: a page as a reply.
//!
//! A page that the store has gathered is one reply with a length. A larger one is sent while it is
//! read, one chunk in memory at a time; if reading it fails then, the reply is cut off.

use std::sync::Arc;
use std::time::Duration;

use eventodb_schema::request::Read;
use eventodb_schema::wire::Form;
use eventodb_store::log::Chunk;
use eventodb_store::{Log, Page};
use futures_util::{Stream, stream};
use http::{HeaderName, HeaderValue, Response};

use super::Context;
use crate::body::{Aborted, Body, Piece};
use crate::budget::{Account, SMALL};
use crate::error::{Chain, Failure};
use crate::reply;

const X_EVENTODB_HEAD: HeaderName = HeaderName::from_static("x-eventodb-head");

/// Reads a page and answers with it.
pub(super) async fn answer(
    context: &mut Context<'_>,
    log: &Arc<Log>,
    read: Read,
    form: Form,
) -> Result<Response<Body>, Failure> {
    context.record.wait = read.wait;
    let mut page = open(context, log, read).await?;
    let head = page.head();
    let mut response = if page.is_gathered() {
        let mut json = Vec::from(b"[");
        while let Some(chunk) = page.next().await? {
            write(&mut json, &chunk, form);
        }
        json.push(b']');
        reply::text(counted(context, json)?)
    } else {
        reply::streamed(Body::stream(pieces(page, form, context.busy.account().clone())))
    };
    if let Some(head) = head {
        response.headers_mut().insert(X_EVENTODB_HEAD, HeaderValue::from(head));
    }
    Ok(response)
}

/// A gathered page, and the memory that it takes.
fn counted(context: &Context<'_>, json: Vec<u8>) -> Result<Piece, Failure> {
    let permit = match json.len() {
        ..=SMALL => None,
        bytes => Some(context.busy.account().take(bytes)?),
    };
    Ok(Piece::counted(json, permit))
}

/// A read that waits for a message stops waiting when the server stops.
async fn open(context: &Context<'_>, log: &Arc<Log>, read: Read) -> Result<Page, Failure> {
    if read.wait.is_zero() {
        return Ok(log.read(read).await?);
    }
    let at_once = Read { wait: Duration::ZERO, ..read.clone() };
    match context.state.stopping.run_until_cancelled(log.read(read)).await {
        Some(page) => Ok(page?),
        None => Ok(log.read(at_once).await?),
    }
}

/// Appends a chunk to the array that `json` begins, or goes on with.
fn write(json: &mut Vec<u8>, chunk: &Chunk, form: Form) {
    if json.as_slice() != b"[" {
        json.push(b',');
    }
    chunk.write(json, form);
}

/// How far a streamed page was sent.
enum Sent {
    Nothing,
    Some,
    All,
}

fn pieces(page: Page, form: Form, account: Account) -> impl Stream<Item = Result<Piece, Aborted>> + Send + 'static {
    stream::unfold((Sent::Nothing, page, account), move |(sent, mut page, account)| async move {
        let mut json = match sent {
            Sent::Nothing => Vec::from(b"["),
            Sent::Some => Vec::new(),
            Sent::All => return None,
        };
        match page.next().await {
            Ok(Some(chunk)) => {
                write(&mut json, &chunk, form);
                // Nobody reads on until there is room for this.
                let permit = account.wait(json.len()).await;
                Some((Ok(Piece::counted(json, Some(permit))), (Sent::Some, page, account)))
            }
            Ok(None) => {
                json.push(b']');
                Some((Ok(json.into()), (Sent::All, page, account)))
            }
            Err(error) => {
                tracing::error!(error = %Chain(&error), "a reply is cut off: the rest of its page cannot be read");
                Some((Err(Aborted), (Sent::All, page, account)))
            }
        }
    })
}
