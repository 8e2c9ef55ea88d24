//! What the reading methods share: a page as a reply.
//!
//! A page that is small enough is gathered first, and its reply has a length. A larger one is sent
//! while it is read, one chunk in memory at a time; if reading it fails then, the reply is cut off.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventodb_schema::request::Read;
use eventodb_schema::wire::Form;
use eventodb_store::log::Chunk;
use eventodb_store::{Log, Page};
use futures_util::{Stream, stream};
use http::{HeaderName, HeaderValue, Response};

use super::Context;
use crate::body::{Aborted, Body};
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
    let mut json = Vec::from(b"[");
    let rest = loop {
        let Some(chunk) = page.next().await? else { break None };
        if json.len() > context.state.config.bounds.reply_buffer {
            break Some(chunk);
        }
        write(&mut json, &chunk, form);
    };
    let head = page.head();
    let mut response = match rest {
        None => {
            json.push(b']');
            reply::text(json)
        }
        Some(chunk) => reply::streamed(Body::stream(stream_rest(json, chunk, page, form))),
    };
    if let Some(head) = head {
        response.headers_mut().insert(X_EVENTODB_HEAD, HeaderValue::from(head));
    }
    Ok(response)
}

/// A read that waits for a message stops waiting when the server stops.
async fn open(context: &Context<'_>, log: &Arc<Log>, read: Read) -> Result<Page, Failure> {
    let at_once = Read { wait: Duration::ZERO, ..read.clone() };
    if read.wait.is_zero() || read.limit == 0 {
        return Ok(log.read(at_once).await?);
    }
    match context.state.stopping.run_until_cancelled(log.read(read)).await {
        Some(page) => Ok(page?),
        None => Ok(log.read(at_once).await?),
    }
}

fn write(json: &mut Vec<u8>, chunk: &Chunk, form: Form) {
    if json.len() != 1 {
        json.push(b',');
    }
    chunk.write(json, form);
}

/// Where a streamed page is.
enum Place {
    /// Bytes are ready, and a chunk after them.
    Ready(Vec<u8>, Chunk),
    /// The next chunk is to be read.
    Next,
    /// All was sent.
    End,
}

fn stream_rest(
    json: Vec<u8>,
    chunk: Chunk,
    page: Page,
    form: Form,
) -> impl Stream<Item = Result<Bytes, Aborted>> + Send + 'static {
    stream::unfold((Place::Ready(json, chunk), page), move |(place, mut page)| async move {
        match place {
            Place::Ready(mut json, chunk) => {
                json.push(b',');
                chunk.write(&mut json, form);
                Some((Ok(json.into()), (Place::Next, page)))
            }
            Place::Next => match page.next().await {
                Ok(Some(chunk)) => {
                    let mut json = Vec::from(b",");
                    chunk.write(&mut json, form);
                    Some((Ok(json.into()), (Place::Next, page)))
                }
                Ok(None) => Some((Ok(Bytes::from_static(b"]")), (Place::End, page))),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "a reply is cut off: the rest of its page cannot be read");
                    Some((Err(Aborted), (Place::End, page)))
                }
            },
            Place::End => None,
        }
    })
}
