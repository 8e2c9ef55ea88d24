//! Metrics: the table of them all, what is counted of requests, and the text that a scrape gets.
//!
//! What the HTTP layer and the store count, they count into plain figures of their own. The application reads all figures
//! at a scrape and writes them by the table
//! ([0176](../../../../docs/decisions/0176-metrics-are-plain-figures-and-one-table.md)).

mod labels;
pub(crate) mod process;
mod requests;
pub(crate) mod table;
mod text;

pub(crate) use labels::{Labels, NAMESPACES, OTHER};
pub(crate) use requests::{Ended, Outcome, Requests, Shed};
pub(crate) use text::{CONTENT_TYPE, Text, Value};
