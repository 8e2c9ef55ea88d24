//! The request log, the causes of failures in it, and the audit.

mod audit;
mod cause;
mod record;
mod request_log;
mod sampler;

pub use audit::{TARGET as AUDIT, act_in_store};
pub(crate) use cause::Cause;
pub(crate) use record::Record;
pub(crate) use request_log::RequestLog;
