//! The request log, the causes of failures in it, the audit, the metrics, and statistics of requests.

mod audit;
mod cause;
mod method;
pub(crate) mod metrics;
mod outage;
mod pace;
mod performance;
mod record;
mod request_log;
mod sampler;
mod totals;

pub use audit::{TARGET as AUDIT, act_by_signal, act_in_store};
pub(crate) use cause::Cause;
pub(crate) use method::Method;
pub(crate) use metrics::{Labels, Outcome, Requests, Shed};
pub(crate) use outage::Outage;
pub(crate) use performance::{Performance, Step};
pub(crate) use record::Record;
pub(crate) use request_log::RequestLog;
pub use totals::Totals;
