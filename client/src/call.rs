//! The body of a call, `["method", argument, …]`, built as text without intermediate values.

use bytes::Bytes;
use eventodb_protocol::json;
use eventodb_protocol::wire::write_integer;
use serde::Serialize;

use crate::error::{Error, Result};

/// A call under construction.
pub(crate) struct Call {
    body: Vec<u8>,
}

impl Call {
    /// A call of `method` without arguments.
    pub(crate) fn new(method: &str) -> Self {
        Self::with_capacity(method, 128)
    }

    /// The same with room for `capacity` bytes.
    pub(crate) fn with_capacity(method: &str, capacity: usize) -> Self {
        let mut body = Vec::with_capacity(capacity);
        body.push(b'[');
        json::write_string(&mut body, method);
        Self { body }
    }

    /// Adds a string.
    pub(crate) fn string(mut self, argument: &str) -> Self {
        self.body.push(b',');
        json::write_string(&mut self.body, argument);
        self
    }

    /// Adds what `write` appends, which must be one JSON value.
    pub(crate) fn raw(mut self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.body.push(b',');
        write(&mut self.body);
        self
    }

    /// The same where writing may fail.
    pub(crate) fn try_raw<E>(mut self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        self.body.push(b',');
        write(&mut self.body)?;
        Ok(self)
    }

    /// Adds anything.
    pub(crate) fn json(self, argument: &impl Serialize) -> Result<Self> {
        self.try_raw(|body| serde_json::to_writer(body, argument).map_err(Error::encode))
    }

    /// The whole body.
    pub(crate) fn finish(mut self) -> Bytes {
        self.body.push(b']');
        self.body.into()
    }
}

/// An object of options under construction; those left out are not written.
pub(crate) struct Options<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Options<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !self.empty {
            self.out.push(b',');
        }
        self.empty = false;
        json::write_string(self.out, name);
        self.out.push(b':');
        self.out
    }

    pub(crate) fn integer(&mut self, name: &str, value: Option<i64>) -> &mut Self {
        if let Some(value) = value {
            write_integer(self.name(name), value);
        }
        self
    }

    pub(crate) fn string(&mut self, name: &str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            json::write_string(self.name(name), value);
        }
        self
    }

    pub(crate) fn strings(&mut self, name: &str, values: &[String]) -> &mut Self {
        if !values.is_empty() {
            write_strings(self.name(name), values);
        }
        self
    }

    /// The option's value is what `write` appends.
    pub(crate) fn raw(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        write(self.name(name));
        self
    }

    pub(crate) fn finish(&mut self) {
        self.out.push(b'}');
    }
}

/// Appends an array of strings.
pub(crate) fn write_strings(out: &mut Vec<u8>, values: &[String]) {
    out.push(b'[');
    for (at, value) in values.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        json::write_string(out, value);
    }
    out.push(b']');
}
