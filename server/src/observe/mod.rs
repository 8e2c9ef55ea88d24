//! The request log, the causes of failures in it, the audit, the metrics, statistics of requests, and spans.

mod audit;
mod cause;
mod finished;
mod method;
pub(crate) mod metrics;
mod outage;
mod pace;
mod performance;
mod record;
mod request_log;
mod sampler;
#[cfg_attr(not(feature = "otel"), path = "no_spans.rs")]
mod spans;
mod totals;
#[cfg_attr(not(feature = "otel"), path = "no_trace.rs")]
mod trace;

pub use audit::{TARGET as AUDIT, act_by_signal, act_in_store};
pub(crate) use cause::Cause;
pub(crate) use finished::Finished;
pub(crate) use method::Method;
pub(crate) use metrics::{Labels, Outcome, Shed};
pub(crate) use outage::Outage;
pub(crate) use performance::Step;
pub(crate) use record::Record;
pub(crate) use request_log::RequestLog;
pub(crate) use spans::Spans;
pub use totals::Totals;
pub(crate) use trace::Trace;
