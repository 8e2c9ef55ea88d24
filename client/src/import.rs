//! `POST /import`: records in, progress out, both streamed.

use std::time::Duration;

use bytes::Bytes;
use eventodb_protocol::group::GroupsThen;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender as BodySender};
use hyper::Method;
use hyper::body::{Body as _, Incoming};
use serde::Deserialize;
use tokio::time::timeout;

use crate::client::{Client, retry_after};
use crate::error::{Error, Result};
use crate::sse::Parser;
use crate::transport::{Sender, error_body};

/// What an import does with what the namespace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportMode {
    /// The records are added to it.
    Add,
    /// The records replace its messages, in one step after the last one. After any failure the namespace is unchanged.
    Replace {
        /// What becomes of its groups. It must be given if there are some.
        groups: Option<GroupsThen>,
    },
}

/// The input of an import. Dropping it without [`ImportInput::finish`] aborts the import.
#[derive(Debug)]
pub struct ImportInput {
    body: BodySender<Bytes, std::io::Error>,
}

/// The progress of an import.
pub struct ImportProgress {
    sender: Sender,
    body: Incoming,
    parser: Parser,
    silence: Duration,
}

/// One report of an import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportEvent {
    /// This many records are imported, up to this global position. With `force` it is sent only when all records are
    /// imported.
    Imported {
        /// Records so far.
        records: u64,
        /// Global position of the last one.
        global_position: i64,
    },
    /// All records are imported.
    Done {
        /// Records in all.
        records: u64,
        /// How long it took, as the server writes it.
        elapsed: String,
    },
    /// The import failed at a record. The complete batches before it are kept; with `force` nothing is.
    Failed {
        /// `POSITION_EXISTS`, `INVALID_JSON` or `IMPORT_FAILED`.
        code: String,
        /// The server's words.
        message: String,
        /// The line at fault, from 1.
        line: Option<u64>,
    },
}

impl ImportInput {
    /// Sends a piece of the input: any number of lines or parts of lines. Waits while the server cannot take more.
    ///
    /// # Errors
    /// `Closed` if the server takes no more. The progress has the reason.
    pub async fn send(&mut self, piece: Bytes) -> Result<()> {
        self.body.send_data(piece).await.map_err(|_| Error::Closed)
    }

    /// Ends the input.
    pub fn finish(self) {
        drop(self.body);
    }

    /// Aborts the input: the server drops the unfinished batch.
    pub fn abort(self) {
        self.body.abort(std::io::Error::other("the input ended early"));
    }
}

/// An import that has begun: its input and its progress.
pub type Import = (ImportInput, PendingImport);

/// An import whose reply has not arrived. The server may reply only after the first records, so that they must be sent
/// at the same time.
pub struct PendingImport {
    sender: Sender,
    response: std::pin::Pin<Box<dyn Future<Output = Result<hyper::Response<Incoming>>> + Send>>,
    silence: Duration,
}

impl Client {
    /// Begins an import of records in the export format, behind the messages of the namespace or in place of them. If
    /// they are added and the import fails, the progress tells what is kept, and so does [`Client::head`] afterwards.
    /// Nothing is retried.
    ///
    /// # Errors
    /// `Unavailable` if the server cannot be reached.
    pub async fn import(&self, mode: ImportMode) -> Result<Import> {
        let query = match mode {
            ImportMode::Add => String::new(),
            ImportMode::Replace { groups: None } => "force=true".to_owned(),
            ImportMode::Replace { groups: Some(groups) } => format!("force=true&groups={}", groups.as_str()),
        };
        let request = self.request(Method::POST, "/import", &query, Bytes::new())?;
        let mut sender = self.pool().open().await?;
        let (input, body) = Channel::new(16);
        let response = sender.send_request(request.map(|_| Either::Right(body)));
        let response = Box::pin(async move {
            response.await.map_err(|error| Error::connection("the connection was cut", true, error))
        });
        Ok((ImportInput { body: input }, PendingImport { sender, response, silence: Duration::from_secs(120) }))
    }
}

impl PendingImport {
    /// Waits until the server has accepted the import.
    ///
    /// # Errors
    /// `Unauthenticated`, `Forbidden`, and any other error by which the server refuses it.
    pub async fn accepted(self) -> Result<ImportProgress> {
        let response = self.response.await?;
        let (parts, body) = response.into_parts();
        if !parts.status.is_success() {
            let body = error_body(body).await?;
            return Err(Error::from_reply(parts.status.as_u16(), retry_after(&parts.headers), &body));
        }
        Ok(ImportProgress { sender: self.sender, body, parser: Parser::default(), silence: self.silence })
    }
}

impl ImportProgress {
    /// The next report; none after `Done` or `Failed`.
    ///
    /// # Errors
    /// `Unavailable` if the connection broke before the end.
    pub async fn next(&mut self) -> Result<Option<ImportEvent>> {
        loop {
            while let Some(frame) = self.parser.next_frame() {
                if let Some(data) = frame.data {
                    return parse_event(&data).map(Some);
                }
            }
            let frame = std::future::poll_fn(|cx| std::pin::Pin::new(&mut self.body).poll_frame(cx));
            let frame = timeout(self.silence, frame)
                .await
                .map_err(|_| Error::unavailable(format!("the import was silent for {:?}", self.silence), true))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => return Err(Error::connection("the import was cut", true, error)),
                Some(Ok(frame)) => {
                    let piece = frame.into_data().unwrap_or_default();
                    self.parser.feed(&piece).map_err(|error| Error::protocol(error.to_string()))?;
                }
            }
        }
    }
}

impl std::fmt::Debug for ImportProgress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImportProgress").field("closed", &self.sender.is_closed()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for PendingImport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PendingImport").finish_non_exhaustive()
    }
}

fn parse_event(data: &str) -> Result<ImportEvent> {
    #[derive(Deserialize)]
    struct Report {
        imported: Option<u64>,
        gpos: Option<i64>,
        #[serde(default)]
        done: bool,
        elapsed: Option<String>,
        error: Option<String>,
        message: Option<String>,
        line: Option<u64>,
    }
    let report: Report = serde_json::from_str(data).map_err(|error| Error::protocol(error.to_string()))?;
    if let Some(code) = report.error {
        return Ok(ImportEvent::Failed { code, message: report.message.unwrap_or_default(), line: report.line });
    }
    let records = report.imported.ok_or_else(|| Error::protocol(format!("no import report: {data}")))?;
    if report.done {
        return Ok(ImportEvent::Done { records, elapsed: report.elapsed.unwrap_or_default() });
    }
    Ok(ImportEvent::Imported { records, global_position: report.gpos.unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_told_apart() {
        let event = |data| parse_event(data).expect("a report");
        assert_eq!(
            event(r#"{"imported":1000,"gpos":1523}"#),
            ImportEvent::Imported { records: 1000, global_position: 1523 }
        );
        assert_eq!(
            event(r#"{"done":true,"imported":3456,"elapsed":"2.3s"}"#),
            ImportEvent::Done { records: 3456, elapsed: "2.3s".into() }
        );
        assert_eq!(
            event(r#"{"error":"POSITION_EXISTS","message":"taken","line":15}"#),
            ImportEvent::Failed { code: "POSITION_EXISTS".into(), message: "taken".into(), line: Some(15) }
        );
        assert!(parse_event("{}").is_err());
    }
}
