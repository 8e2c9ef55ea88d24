//! `stream.write`, `stream.append`, `streams.append`.
//!
//! All of them may be repeated after a failure whose outcome is open: every message has its id, and
//! the server answers a repeated batch with the positions that it got the first time.

use eventodb_protocol::Expected;
use eventodb_protocol::reply::{Appended, Written};
use serde::Serialize;

use crate::call::{Call, Options};
use crate::client::{Client, Repeat};
use crate::error::Result;
use crate::new_message::{NewMessage, write_expected, write_id};

impl Client {
    /// Writes one message.
    ///
    /// # Errors
    /// `VersionConflict` where the stream is not as expected, `IdConflict` where the id was written
    /// with something else, `Encode` where the data is no object, and whatever else a call can fail with.
    pub async fn write<T: Serialize>(
        &self,
        stream: &str,
        message: &NewMessage<T>,
        expected: Expected,
    ) -> Result<Written> {
        let call = Call::new("stream.write").string(stream).try_raw(|out| message.write(out, false))?;
        let call = call.raw(|out| {
            let mut options = Options::new(out);
            options.raw("id", |out| write_id(out, message.id));
            write_expected(&mut options, expected);
            options.finish();
        });
        self.call(call.finish(), Repeat::Always).await?.parse()
    }

    /// Writes 1 to 1,000 messages to one stream: all, one after the other, or none.
    ///
    /// # Errors
    /// As [`Client::write`].
    pub async fn append<T: Serialize>(
        &self,
        stream: &str,
        messages: &[NewMessage<T>],
        expected: Expected,
    ) -> Result<Appended> {
        let call = Call::new("stream.append").string(stream).try_raw(|out| write_messages(out, messages))?;
        let call = call.raw(|out| {
            let mut options = Options::new(out);
            write_expected(&mut options, expected);
            options.finish();
        });
        self.call(call.finish(), Repeat::Always).await?.parse()
    }

    /// Writes to several streams at once: everything, or nothing. Answers one result per entry.
    ///
    /// # Errors
    /// As [`Client::write`]; a `VersionConflict` lists all failed expectations.
    pub async fn append_many(&self, append: &AppendMany) -> Result<Vec<Appended>> {
        self.call(append.body(), Repeat::Always).await?.parse()
    }
}

/// An atomic append to up to 100 streams, with up to 100 checks on others.
///
/// ```
/// # use eventodb_client::{AppendMany, Expected, NewMessage};
/// # use serde_json::json;
/// # fn main() -> Result<(), eventodb_client::Error> {
/// let transfer = AppendMany::new()
///     .entry("account-1", Expected::Version(4), &[NewMessage::new("Withdrawn", json!({"amount": 5}))])?
///     .entry("account-2", Expected::Any, &[NewMessage::new("Deposited", json!({"amount": 5}))])?
///     .check("limit-1", Expected::Version(0));
/// # let _ = transfer;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct AppendMany {
    entries: Vec<u8>,
    checks: Vec<u8>,
}

impl AppendMany {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds messages for one stream, which may be named once.
    ///
    /// # Errors
    /// `Encode` where a message's data is no JSON object.
    pub fn entry<T: Serialize>(mut self, stream: &str, expected: Expected, messages: &[NewMessage<T>]) -> Result<Self> {
        let mut list = Vec::new();
        write_messages(&mut list, messages)?;
        separate(&mut self.entries);
        let mut options = Options::new(&mut self.entries);
        options.string("stream", Some(stream)).raw("messages", |out| out.extend_from_slice(&list));
        write_expected(&mut options, expected);
        options.finish();
        Ok(self)
    }

    /// Adds an expectation about a stream that is not written.
    #[must_use]
    pub fn check(mut self, stream: &str, expected: Expected) -> Self {
        separate(&mut self.checks);
        let mut options = Options::new(&mut self.checks);
        options.string("stream", Some(stream));
        match expected {
            Expected::Any => options.string("expectedVersion", Some("any")),
            Expected::NoStream | Expected::Exists | Expected::Version(_) => {
                write_expected(&mut options, expected);
                &mut options
            }
        };
        options.finish();
        self
    }

    fn body(&self) -> bytes::Bytes {
        let call = Call::with_capacity("streams.append", self.entries.len() + self.checks.len() + 64);
        let call = call.raw(|out| {
            out.push(b'[');
            out.extend_from_slice(&self.entries);
            out.push(b']');
        });
        let call = call.raw(|out| {
            let mut options = Options::new(out);
            if !self.checks.is_empty() {
                options.raw("checks", |out| {
                    out.push(b'[');
                    out.extend_from_slice(&self.checks);
                    out.push(b']');
                });
            }
            options.finish();
        });
        call.finish()
    }
}

fn separate(list: &mut Vec<u8>) {
    if !list.is_empty() {
        list.push(b',');
    }
}

fn write_messages<T: Serialize>(out: &mut Vec<u8>, messages: &[NewMessage<T>]) -> Result<()> {
    out.push(b'[');
    for (at, message) in messages.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        message.write(out, true)?;
    }
    out.push(b']');
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn several_streams_make_one_call() {
        let message = NewMessage::new("T", json!({})).with_id(Uuid::from_u128(1));
        let append = AppendMany::new()
            .entry("a-1", Expected::Version(4), std::slice::from_ref(&message))
            .and_then(|append| append.entry("b-1", Expected::Any, &[message]))
            .expect("objects")
            .check("c-1", Expected::Exists)
            .check("d-1", Expected::Any);
        let body = append.body();
        assert_eq!(
            String::from_utf8_lossy(&body),
            concat!(
                r#"["streams.append",[{"stream":"a-1","messages":[{"type":"T","data":{},"id":"00000000-0000-0000-0000-000000000001"}],"expectedVersion":4},"#,
                r#"{"stream":"b-1","messages":[{"type":"T","data":{},"id":"00000000-0000-0000-0000-000000000001"}]}],"#,
                r#"{"checks":[{"stream":"c-1","expectedVersion":"exists"},{"stream":"d-1","expectedVersion":"any"}]}]"#
            )
        );
    }
}
