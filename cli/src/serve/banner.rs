//! What is printed at the start for people: what runs where, and how to make the first request. Programs read the log.

use std::io::Write as _;
use std::path::Path;

use eventodb_protocol::VERSION;
use eventodb_store::sqlite::Location;

use super::administrator::{Administrator, Shown};
use super::config::Storage;

/// Prints the banner to standard output. A token that was stored by an earlier start is not known and not printed.
pub(super) fn print(storage: &Storage, url: &str, test_mode: bool, administrator: &Administrator) {
    // An error means that the reader of standard output has gone: the server goes on without it.
    let _ = std::io::stdout().write_all(banner(storage, url, test_mode, administrator).as_bytes());
    let _ = std::io::stdout().flush();
}

fn banner(storage: &Storage, url: &str, test_mode: bool, administrator: &Administrator) -> String {
    let mode = if test_mode { "test: tokens are optional" } else { "production: every call needs a token" };
    let mut lines = vec![
        format!("EventoDB {VERSION}"),
        format!("  storage  {}", describe(storage)),
        format!("  address  {url}"),
        format!("  mode     {mode}"),
    ];
    match &administrator.shown {
        Some(Shown::Terminal) => lines.push("  token    made just now and not shown again; keep it".to_owned()),
        Some(Shown::File(file)) => lines.push(format!("  token    made just now, in {}", full(file))),
        Some(Shown::Nowhere) | None => {}
    }
    let authorization = if test_mode { "" } else { " -H \"Authorization: Bearer $EVENTODB_TOKEN\"" };
    lines.extend([
        String::new(),
        "To write a first message, paste this into another terminal:".to_owned(),
        String::new(),
        format!("export {}EVENTODB_URL={url}", token_variable(administrator)),
        format!(
            "curl -s $EVENTODB_URL/rpc{authorization} -d '[\"stream.write\", \"greeting-1\", {{\"type\": \"Greeted\", \
             \"data\": {{\"name\": \"Ann\"}}}}]'"
        ),
        String::new(),
        String::new(),
    ]);
    lines.join("\n")
}

/// The assignment of a token that has just been made, for a shell: the token itself only where a person looks.
fn token_variable(administrator: &Administrator) -> String {
    match (&administrator.shown, &administrator.token) {
        (Some(Shown::Terminal), Some(token)) => format!("EVENTODB_TOKEN={token} "),
        (Some(Shown::File(file)), _) => {
            format!("EVENTODB_TOKEN=\"$(cat '{}')\" ", full(file).replace('\'', r"'\''"))
        }
        _ => String::new(),
    }
}

/// The absolute path of a file.
pub(super) fn full(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
}

/// Where messages are kept. The password of a database is not shown.
pub(super) fn describe(storage: &Storage) -> String {
    match storage {
        Storage::Sqlite(Location::Memory, _) => "in memory, gone when the server stops".to_owned(),
        Storage::Sqlite(Location::Directory(directory), _) => {
            format!("SQLite in {}", full(directory))
        }
        Storage::Postgres(settings) => format!("PostgreSQL at {}", settings.url),
    }
}
