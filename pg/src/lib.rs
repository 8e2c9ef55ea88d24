//! How a PostgreSQL is reached: its URL, as libpq understands it, and TLS to it.
//!
//! The store and the client's read model both connect by this, so that `sslmode` means the same in both. It knows
//! nothing of what is in the database.

mod tls;
mod url;

pub use tls::{Stream, Tls};
pub use url::{Url, UrlError, place};
