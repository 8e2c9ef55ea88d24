//! What the server tells of itself.

mod cause;
mod request_log;
mod sampler;

pub(crate) use cause::Cause;
pub(crate) use request_log::{Record, RequestLog};
