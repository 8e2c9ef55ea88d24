//! What is printed at the start: what runs where, and how to make the first request.

use std::io::Write as _;
use std::net::SocketAddr;

use eventodb_schema::VERSION;
use eventodb_store::backend::sqlite::Location;

use super::administrator::Administrator;
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
    let new = administrator.token.as_ref().filter(|_| administrator.is_new);
    if new.is_some() {
        lines.push("  token    made just now and not shown again; keep it".to_owned());
    }
    let authorization = match new {
        None if test_mode => String::new(),
        Some(token) => format!(" -H 'Authorization: Bearer {token}'"),
        None => " -H \"Authorization: Bearer $EVENTODB_TOKEN\"".to_owned(),
    };
    lines.push(String::new());
    lines.push(match new {
        Some(_) => "Write a message (the line has the administrator's token in it):".to_owned(),
        None => "Write a message:".to_owned(),
    });
    lines.push(format!(
        "  curl -s http://{address}/rpc{authorization} \
         -d '[\"stream.write\", \"account-1\", {{\"type\": \"Deposited\", \"data\": {{\"amount\": 5}}}}]'"
    ));
    lines.push(String::new());
    // Whoever closed standard output does not want to read it.
    let _ = std::io::stdout().write_all(lines.join("\n").as_bytes());
    let _ = std::io::stdout().flush();
}

fn describe(storage: &Storage) -> String {
    match storage {
        Storage::Sqlite(Location::Memory, _) => "in memory, gone when the server stops".to_owned(),
        Storage::Sqlite(Location::Directory(directory), _) => {
            let full = std::path::absolute(directory).unwrap_or_else(|_| directory.clone());
            format!("SQLite in {}", full.display())
        }
        Storage::Postgres(settings) => format!("PostgreSQL at {}", settings.url),
    }
}
