//! What is printed at the start for people: what runs where, and how to make the first request. Programs read the log.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use eventodb_protocol::VERSION;
use eventodb_store::backend::sqlite::Location;

use super::administrator::{Administrator, Shown};
use super::config::Storage;

/// Prints it to standard output. Once a token is stored, nothing that looks like one is printed again.
pub(super) fn print(storage: &Storage, address: SocketAddr, test_mode: bool, administrator: &Administrator) {
    let mode = if test_mode { "test: tokens are optional" } else { "production: every call needs a token" };
    let mut lines = vec![
        format!("EventoDB {VERSION}"),
        format!("  storage  {}", describe(storage)),
        format!("  address  http://{address}"),
        format!("  mode     {mode}"),
    ];
    match (&administrator.shown, &administrator.token) {
        (Some(Shown::Terminal), Some(token)) => {
            lines.push("  token    made just now and not shown again; keep it:".to_owned());
            lines.push(format!("export EVENTODB_TOKEN={token}"));
        }
        (Some(Shown::File(file)), _) => lines.push(format!("  token    made just now, in {}", full(file))),
        _ => {}
    }
    let authorization = if test_mode { "" } else { " -H \"Authorization: Bearer $EVENTODB_TOKEN\"" };
    lines.push(String::new());
    lines.push("Write a message:".to_owned());
    lines.push(format!(
        "  curl -s http://{address}/rpc{authorization} \
         -d '[\"stream.write\", \"account-1\", {{\"type\": \"Deposited\", \"data\": {{\"amount\": 5}}}}]'"
    ));
    lines.push(String::new());
    // Whoever closed standard output does not want to read it.
    let _ = std::io::stdout().write_all(lines.join("\n").as_bytes());
    let _ = std::io::stdout().flush();
}

/// A path as it stands from wherever one looks.
pub(super) fn full(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Where messages are kept, without secrets.
pub(super) fn describe(storage: &Storage) -> String {
    match storage {
        Storage::Sqlite(Location::Memory, _) => "in memory, gone when the server stops".to_owned(),
        Storage::Sqlite(Location::Directory(directory), _) => {
            format!("SQLite in {}", full(directory))
        }
        Storage::Postgres(settings) => format!("PostgreSQL at {}", settings.url),
    }
}
