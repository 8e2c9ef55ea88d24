//! The programs that these tests start.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program with these arguments, and without variables of the environment.
pub(crate) fn eventodb(arguments: &[&str]) -> Command {
    eventodb_by(Command::new(env!("CARGO_BIN_EXE_eventodb")), arguments)
}

/// The same by a program that starts it.
pub(crate) fn eventodb_by(mut command: Command, arguments: &[&str]) -> Command {
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("EVENTODB_")) {
        command.env_remove(name);
    }
    // No context of whoever runs the tests: there is no directory of this name.
    command.env("XDG_CONFIG_HOME", "/dev/null").args(arguments);
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

/// A server in test mode, in memory; killed at the end.
pub(crate) struct Server {
    _running: Running,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start() -> Self {
        let (running, url) = started(eventodb(&["serve", "--test-mode", "--port", "0"]));
        Self { _running: running, url }
    }

    pub(crate) fn run(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = eventodb(arguments)
            .env("EVENTODB_URL", &self.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started");
        let mut stdin = child.stdin.take().expect("its input");
        // A command that does not read its input may have ended.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        child.wait_with_output().expect("ended")
    }

    /// The output of a command, which must succeed.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments, "");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.prints(arguments)).expect("JSON")
    }
}
