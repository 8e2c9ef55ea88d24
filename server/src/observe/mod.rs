//! The request log, and the causes of failures in it.

mod cause;
mod request_log;
mod sampler;

pub(crate) use cause::Cause;
pub(crate) use request_log::{Record, RequestLog};
