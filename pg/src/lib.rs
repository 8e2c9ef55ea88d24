//! How to reach a PostgreSQL: its URL, as libpq understands it, and TLS.
//!
//! The store and the client's read model both connect by this crate, so that `sslmode` means the same in both. It knows
//! nothing about the content of the database.

mod tls;
mod url;

pub use tls::{Stream, Tls};
pub use url::{APPLICATION, Url, UrlError, place};
