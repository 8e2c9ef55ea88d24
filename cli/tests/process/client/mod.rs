//! The Rust client against the real binary: its promises while processes are killed, connections are cut and many
//! clients work at once.

mod ambiguous;
mod duplicates;
mod examples;
mod groups;
mod kept;
pub(crate) mod killed;
mod read_models;
mod restarts;
pub(crate) mod tables;
mod tls;
mod transfers;
mod waiting;
mod worker;

use std::time::Duration;

use eventodb_client::{Client, RetryPolicy};

use super::server::{PATIENCE, Server, TOKEN};

impl Server {
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A client of the namespace `default`.
    pub(crate) fn client(&self) -> Client {
        client(&self.url())
    }
}

/// A client of the server at `url` that retries with short waits, for as long as a test may take.
pub(crate) fn client(url: &str) -> Client {
    let retry = RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::default().give_up_after(PATIENCE) };
    Client::builder(url).token(TOKEN).retry(retry).build().expect("a URL and a token")
}
