//! The programs that these tests start.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The program with these arguments, and without variables of the environment.
pub(crate) fn eventodb(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_eventodb"));
    for name in ["EVENTODB_URL", "EVENTODB_TOKEN", "EVENTODB_DB_URL", "EVENTODB_PORT"] {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// A process that is killed at the end.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a server, and returns the address in its banner.
pub(crate) fn started(mut command: Command) -> (Running, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
    let url = lines
        .by_ref()
        .map(|line| line.expect("UTF-8"))
        .find_map(|line| line.trim().strip_prefix("address").map(|url| url.trim().to_owned()))
        .expect("the server tells its address");
    // The rest of the output is read, so that the server does not block on a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (Running(child), url)
}
