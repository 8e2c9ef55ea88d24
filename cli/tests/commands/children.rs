//! The commands that `eventodb consume` runs for messages: how they end, and what ends them.

use std::io::{BufRead as _, BufReader, Lines, Read as _};
use std::path::Path;
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Running, Server, eventodb_by};

/// The command starts another process, and waits for it.
const SLEEPING: &str = "sleep 1000 & echo $!; wait";

/// A consumer of the group `g` with a command that a script is.
struct Busy {
    consumer: Running,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Busy {
    fn start(server: &Server, options: &[&str], script: &str) -> Self {
        // A shell lets what it runs in the background ignore some signals, such as a whole run of the tests.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,QUIT,TSTP", env!("CARGO_BIN_EXE_eventodb")]);
        Self::run(server, eventodb_by(command, &consume(options, script)))
    }

    fn run(server: &Server, mut command: Command) -> Self {
        command.env("EVENTODB_URL", &server.url).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { consumer: Running(child), lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("UTF-8")
    }

    /// Sends a signal to the consumer alone.
    fn signal(&self, signal: Signal) {
        kill_process(process(&self.consumer.0.id().to_string()), signal).expect("it runs");
    }

    /// Waits until the consumer has ended, and calls `meanwhile` again and again.
    fn ended(&mut self, meanwhile: impl Fn(&Self)) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = self.consumer.0.try_wait().expect("a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            meanwhile(self);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the consumer, which has ended, told on standard error.
    fn told(&mut self) -> String {
        let mut told = String::new();
        self.consumer.0.stderr.take().expect("its errors").read_to_string(&mut told).expect("UTF-8");
        told
    }
}

fn consume<'a>(options: &[&'a str], script: &'a str) -> Vec<&'a str> {
    [&["consume", "g"], options, &["--", "bash", "-c", script]].concat()
}

/// A script that prints a line, and goes on once the file exists.
fn waiting_for(file: &Path) -> String {
    format!("echo begun; until [ -e {} ]; do sleep 0.01; done", file.display())
}

fn process(id: &str) -> Pid {
    id.parse().ok().and_then(Pid::from_raw).expect("a process id")
}

fn until_gone(process: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let state = || std::fs::read_to_string(Path::new("/proc").join(process).join("stat"));
    // A process that nobody has waited for is a zombie.
    while state().is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < deadline, "{process} still runs");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_lets_the_command_finish() {
    for signals in [&[Signal::TERM][..], &[Signal::QUIT], &[Signal::HUP, Signal::HUP]] {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Server::with_group();
        let file = folder.path().join("finish");
        let mut busy = Busy::start(&server, &[], &waiting_for(&file));
        assert_eq!(busy.line(), "begun");
        for signal in signals {
            busy.signal(*signal);
        }
        std::fs::write(&file, "").expect("written");
        assert_eq!(busy.ended(|_| {}).code(), Some(0), "{signals:?}");
        assert!(server.checkpoint().as_u64() >= Some(1), "{signals:?}");
    }
}

#[test]
fn a_second_signal_ends_the_command_with_all_that_it_started() {
    for first in [Signal::INT, Signal::TERM, Signal::QUIT, Signal::HUP] {
        let server = Server::with_group();
        let mut busy = Busy::start(&server, &[], SLEEPING);
        let sleeping = busy.line();
        busy.signal(first);
        // Two signals at once may count as one.
        let status = busy.ended(|busy| busy.signal(Signal::INT));
        assert_eq!(status.code(), Some(130), "{first:?}");
        until_gone(&sleeping);
    }
}

#[test]
fn a_consumer_under_nohup_outlives_a_hangup() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::with_group();
    let file = folder.path().join("finish");
    let script = waiting_for(&file);
    let mut command = Command::new("nohup");
    command.arg(env!("CARGO_BIN_EXE_eventodb")).args(consume(&[], &script)).stdin(Stdio::null());
    let mut busy = Busy::run(&server, command);
    assert_eq!(busy.line(), "begun");
    busy.signal(Signal::HUP);
    std::fs::write(&file, "").expect("written");
    server.prints(&["group", "wait", "g"]);
    busy.signal(Signal::TERM);
    assert_eq!(busy.ended(|_| {}).code(), Some(0));
}

/// The server dies. Before the lease is over by the consumer's clock, the command is asked to end, and then it is killed.
#[test]
fn a_lost_lease_ends_the_command_with_all_that_it_started() {
    let server = Server::start();
    server.prints(&["write", "c-1", "A"]);
    server.prints(&["group", "create", "g", "--partitions", "1", "--session-ms", "1000"]);
    let script = "trap 'echo asked' TERM; sleep 1000 & echo $!; wait; trap '' TERM; sleep 1001 & echo $!; wait";
    let mut busy = Busy::start(&server, &[], script);
    let first = busy.line();
    drop(server);
    assert_eq!(busy.line(), "asked");
    let second = busy.line();
    until_gone(&first);
    until_gone(&second);
}

#[test]
fn a_younger_consumer_of_the_name_ends_the_command_with_all_that_it_started() {
    let server = Server::start();
    server.prints(&["write", "c-1", "A"]);
    server.prints(&["group", "create", "g", "--partitions", "1", "--session-ms", "1000"]);
    let mut older = Busy::start(&server, &["--name", "host"], SLEEPING);
    let sleeping = older.line();
    let _younger = Busy::start(&server, &["--name", "host"], "cat");
    assert_eq!(older.ended(|_| {}).code(), Some(1));
    until_gone(&sleeping);
}

/// A process that the command has started, and leaves, has the other end of the pipe and does not read.
#[test]
fn a_command_may_succeed_before_it_has_read_its_input() {
    let server = Server::start();
    // A pipe holds 64 KiB.
    server.prints(&["write", "c-1", "A", &format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000))]);
    server.prints(&["group", "create", "g", "--partitions", "1"]);
    let mut busy = Busy::start(&server, &["--until-caught-up"], "sleep 1000 <&0 & echo $!; exit 0");
    let sleeping = busy.line();
    let ended = busy.ended(|_| {});
    kill_process(process(&sleeping), Signal::KILL).expect("what a command leaves is left alone");
    assert_eq!((ended.code(), server.checkpoint()), (Some(0), 1.into()));
}

#[test]
fn a_command_that_fails_is_ended_with_all_that_it_started() {
    let server = Server::with_group();
    let mut busy = Busy::start(&server, &[], "sleep 1000 & echo $!; exit 1");
    until_gone(&busy.line());
}

/// Ctrl-Z would stop the consumer, and not its commands, which would act on after its lease.
#[test]
fn ctrl_z_does_not_stop_a_consumer() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::with_group();
    let file = folder.path().join("finish");
    let mut busy = Busy::start(&server, &[], &waiting_for(&file));
    assert_eq!(busy.line(), "begun");
    busy.signal(Signal::TSTP);
    std::fs::write(&file, "").expect("written");
    server.prints(&["group", "wait", "g"]);
    busy.signal(Signal::TERM);
    assert_eq!(busy.ended(|_| {}).code(), Some(0));
    assert!(busy.told().contains("Ctrl-Z"));
}

#[test]
fn a_consumer_that_is_killed_ends_the_command_with_all_that_it_started() {
    let server = Server::with_group();
    // The consumer's guard knows the command before the command gets its message.
    let mut busy = Busy::start(&server, &[], &format!("read -r message; {SLEEPING}"));
    let sleeping = busy.line();
    busy.signal(Signal::KILL);
    until_gone(&sleeping);
}
