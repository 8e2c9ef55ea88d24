//! The start of a server: what it prints and logs, where the generated token goes, and exit codes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Running, eventodb};

fn outcome(command: &mut Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().expect("ran");
    (status.code(), String::from_utf8(stderr).expect("UTF-8"))
}

/// A server that logs JSON; killed at the end.
struct Server {
    running: Running,
    /// What it logged until it was ready.
    log: Vec<Value>,
    url: String,
}

impl Server {
    fn start(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = eventodb(&["serve", "--port", "0", "--log-format", "json"]);
        command.args(flags).envs(variables.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut lines = BufReader::new(child.stderr.take().expect("its log")).lines();
        let mut log: Vec<Value> = Vec::new();
        for line in lines.by_ref() {
            let line = line.expect("UTF-8");
            log.push(serde_json::from_str(&line).unwrap_or_else(|_| panic!("no JSON: {line}")));
            if log.last().expect("just put there")["message"] == "ready" {
                break;
            }
        }
        let url = log.last().and_then(|line| line["address"].as_str()).unwrap_or_else(|| panic!("{log:?}")).to_owned();
        child.stderr = None;
        let mut server = Self { running: Running(child), log, url };
        server.log.shrink_to_fit();
        std::thread::spawn(move || lines.for_each(drop));
        server
    }

    fn logged(&self, message: &str) -> Option<&Value> {
        self.log.iter().find(|line| line["message"].as_str().is_some_and(|text| text.contains(message)))
    }

    fn takes(&self, token: &str) -> bool {
        eventodb(&["ns", "list", "--url", &self.url, "--token", token]).output().expect("ran").status.success()
    }

    /// Stops the server, and returns what it printed to standard output.
    fn stop(mut self) -> String {
        let pid =
            i32::try_from(self.running.0.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        assert!(self.running.0.wait().expect("ended").success());
        let mut printed = String::new();
        self.running.0.stdout.take().expect("its output").read_to_string(&mut printed).expect("UTF-8");
        printed
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name")
}

fn token(digit: &str) -> String {
    format!("ns_ZGVmYXVsdA_{}", digit.repeat(64 / digit.len()))
}

#[test]
fn a_token_that_is_made_goes_into_a_file_for_its_owner_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, out) = (folder.path().join("data"), folder.path().join("out"));
    for (flags, file) in [
        (vec!["--data-dir", text(&data)], data.join("admin-token")),
        (vec!["--db-url", "sqlite://:memory:", "--token-out", text(&out)], out.clone()),
    ] {
        let server = Server::start(&flags, &[]);
        let token = std::fs::read_to_string(&file).expect("the token's file");
        assert_eq!(file.metadata().expect("there").permissions().mode() & 0o777, 0o600);
        assert!(server.takes(token.trim()));
        let told = server.logged("token was made").expect("the path is logged")["file"].as_str().map(str::to_owned);
        assert_eq!(told.as_deref(), Some(text(&file)));
        assert!(!format!("{:?}", server.log).contains("ns_"), "the token is not logged");
        assert_eq!(server.stop(), "", "nothing is on standard output beside a log of JSON");
    }
    let again = Server::start(&["--data-dir", text(&data)], &[]);
    assert!(again.logged("token was made").is_none());
    drop(again);
    let rotated = eventodb(&["token", "rotate", "default", "--data-dir", text(&data)]).output().expect("ran");
    let kept = std::fs::read_to_string(data.join("admin-token")).expect("the token's file");
    assert_eq!(kept, String::from_utf8(rotated.stdout).expect("UTF-8"), "the file names the token that opens");
}

#[test]
fn a_token_that_would_be_shown_nowhere_is_not_made() {
    let (code, told) = outcome(&mut eventodb(&["serve", "--port", "0", "--db-url", "sqlite://:memory:"]));
    assert_eq!(code, Some(64), "{told}");
    assert!(told.lines().last().expect("a line").contains("--token-out"), "{told}");
}

#[test]
fn a_terminal_is_shown_the_token_as_an_export_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let binary = env!("CARGO_BIN_EXE_eventodb");
    let line = format!("exec {binary} serve --port 0 --data-dir {}", text(folder.path()));
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = script.spawn().expect("util-linux is installed");
    let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines().map(|line| line.expect("UTF-8"));
    assert!(lines.any(|line| line.trim_end().starts_with("export EVENTODB_TOKEN=ns_ZGVmYXVsdA_")));
    assert!(!folder.path().join("admin-token").exists());
    // Ctrl-C, as the terminal sends it.
    std::io::Write::write_all(child.stdin.as_mut().expect("its input"), b"\x03").expect("it reads");
    lines.for_each(drop);
    child.wait().expect("ended");
}

#[test]
fn the_clients_variable_is_taken_with_a_warning_and_only_where_it_fits() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) =
        (text(&folder.path().join("first")).to_owned(), text(&folder.path().join("second")).to_owned());
    let (mine, other) = (token("1a"), token("2b"));
    let with = |directory: &str, variables: &[(&str, &str)]| Server::start(&["--data-dir", directory], variables);

    let server = with(&first, &[("EVENTODB_SERVE_TOKEN", &mine)]);
    assert!(server.takes(&mine) && server.logged("EVENTODB_TOKEN").is_none());
    drop(server);
    let server = with(&first, &[("EVENTODB_TOKEN", &other)]);
    assert!(server.takes(&mine) && !server.takes(&other));
    assert!(server.logged("is not the administrator's token of this store").is_some(), "{:?}", server.log);
    drop(server);
    let server = with(&second, &[("EVENTODB_TOKEN", &mine)]);
    assert!(server.takes(&mine) && server.logged("EVENTODB_SERVE_TOKEN").is_some(), "{:?}", server.log);
}

#[test]
fn secrets_may_come_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mine, url) = (folder.path().join("token"), folder.path().join("url"));
    std::fs::write(&mine, format!("{}\n", token("3c"))).expect("written");
    std::fs::write(&url, "sqlite://:memory:\n").expect("written");
    let server = Server::start(&["--token-file", text(&mine), "--db-url-file", text(&url)], &[]);
    assert!(server.takes(&token("3c")));
    let database = "--db-url=postgres://nobody@localhost/none";
    for (flag, others) in [("--token-file", &[][..]), ("--db-url-file", &[]), ("--listen-url-file", &[database])] {
        let (file, arguments) = ("nowhere", [&["serve", flag, "nowhere"], others].concat());
        let (code, told) = outcome(&mut eventodb(&arguments));
        assert_eq!(code, Some(64));
        assert!(told.contains(flag) && told.contains(file), "{told}");
    }
}

#[test]
fn states_that_stand_in_the_way_have_exit_codes_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = text(folder.path());
    let server = Server::start(&["--data-dir", directory], &[]);
    let port = server.url.rsplit_once(':').expect("a port").1;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let nobody = format!("http://{}", free.local_addr().expect("bound"));
    let database = format!("postgres://nobody@{}/none", free.local_addr().expect("bound"));
    drop(free);
    let file = text(&folder.path().join("registry.db/below")).to_owned();
    for (code, arguments) in [
        (73, &["serve", "--port", port, "--test-mode"][..]),
        (73, &["serve", "--port", "0", "--data-dir", directory]),
        (73, &["serve", "--port", "0", "--data-dir", &file]),
        (69, &["serve", "--port", "0", "--db-url", &database]),
        (69, &["migrate", "--db-url", &database]),
        (64, &["serve", "--port", "0", "--db-url", "mysql://x"]),
        (73, &["token", "rotate", "default", "--data-dir", directory]),
        (73, &["export", "-o", "/nowhere/file", "--url", &server.url, "--token", &read(folder.path())]),
        (69, &["write", "a-1", "T", "--url", &nobody]),
        (64, &["write", "a-1", "T", "--url", &server.url]),
        (74, &["append", "--input", "/nowhere/file", "--url", &server.url]),
    ] {
        let (ended, told) = outcome(&mut eventodb(arguments));
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_has_the_exit_code_of_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str, file: &str, content: &[u8]| {
        let directory = folder.path().join(name);
        std::fs::create_dir_all(&directory).expect("the folder is ours");
        std::fs::write(directory.join(file), content).expect("the folder is ours");
        text(&directory).to_owned()
    };
    let store = text(&folder.path().join("store")).to_owned();
    let server = Server::start(&["--data-dir", &store], &[]);
    let admin = read(&folder.path().join("store"));
    let write = outcome(&mut eventodb(&["write", "a-1", "T", "--url", &server.url, "--token", &admin]));
    assert_eq!(write.0, Some(0), "{write:?}");
    server.stop();
    let orphan = at("orphan", "1.log.db", b"a log");
    let unused = text(&folder.path().join("unused")).to_owned();
    Server::start(&["--data-dir", &unused], &[]).stop();
    let unknown = text(&folder.path().join("unknown")).to_owned();
    Server::start(&["--data-dir", &unknown], &[]).stop();
    std::fs::write(folder.path().join("unknown/99.log.db"), b"a log").expect("the folder is ours");
    let damaged = at("damaged", "registry.db", &[b'x'; 8192]);
    let listless = at("listless", "manifest.json", b"{");
    let unlocked = at("unlocked", "registry.db", b"a registry");
    std::fs::create_dir(folder.path().join("unlocked/lock")).expect("the folder is ours");
    let full = at("full", "something", b"");
    let foreign = at("foreign", "PG_VERSION", b"15");
    let (empty, output) = (at("none", "something", b""), text(&folder.path().join("copy")).to_owned());
    for (code, arguments, reason) in [
        (64, &["verify", &empty][..], "there is no store in"),
        (64, &["repair", "--data-dir", &store, "--give-up", "1", "--namespace", "nobody"], "no namespace nobody"),
        (1, &["repair", "--data-dir", &store, "--give-up", "1", "--namespace", "default"], "cannot be given up"),
        (1, &["repair", "--data-dir", &unused, "--give-up", "1", "--namespace", "default"], "1.log.db is missing"),
        (74, &["verify", &orphan], "registry.db is missing"),
        (74, &["serve", "--port", "0", "--data-dir", &orphan], "registry.db is missing"),
        (74, &["serve", "--port", "0", "--data-dir", &unknown], "99.log.db"),
        (74, &["serve", "--port", "0", "--data-dir", &damaged], "registry.db: file is not a database"),
        (73, &["serve", "--port", "0", "--data-dir", &unlocked], "unlocked: Is a directory"),
        (73, &["serve", "--port", "0", "--data-dir", &foreign], "has PG_VERSION, a file of PostgreSQL: name another"),
        (64, &["repair", "--data-dir", &foreign], "there is no store in"),
        (73, &["repair", "--data-dir", &unlocked], "unlocked: Is a directory"),
        (73, &["backup", "--data-dir", &store, "--output", &full], "full exists and is not empty"),
        (1, &["backup", "--data-dir", &store, "--output", "/proc/none/copy"], "/proc/none: No such file"),
        (1, &["backup", "--data-dir", &damaged, "--output", &output], "registry.db: file is not a database"),
        (1, &["verify", &listless], "is no manifest of a backup: EOF"),
    ] {
        let (ended, told) = outcome(&mut eventodb(arguments));
        assert_eq!(ended, Some(code), "{arguments:?}: {told}");
        let last = told.lines().last().expect("a line");
        assert!(last.contains(reason), "{arguments:?}: {told}");
    }
}

#[test]
fn a_command_on_a_data_directory_is_not_led_astray_by_a_variable() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    Server::start(&["--data-dir", text(&data)], &[]).stop();
    Server::start(&["--data-dir", text(&data), "--db-url", "sqlite://shop"], &[]).stop();
    let url = folder.path().join("url");
    std::fs::write(&url, "postgres://nobody@localhost/none\n").expect("the folder is ours");
    let ran = |arguments: &[&str], variable: (&str, &str)| {
        outcome(eventodb(arguments).env(variable.0, variable.1).current_dir(folder.path()))
    };
    let postgres = [
        ("EVENTODB_DB_URL", "postgres://nobody@localhost/none", "a store on PostgreSQL"),
        ("EVENTODB_DB_URL_FILE", text(&url), "a store on PostgreSQL"),
        ("EVENTODB_DB_URL", "sqlite://:memory:", "a store in memory"),
    ];
    for (variable, value, store) in postgres {
        for (arguments, instead) in [
            (&["backup", "--output", text(&copy)][..], "`pg_dump`"),
            (&["repair"], "PostgreSQL's own means"),
            (&["repair", "--give-up", "1", "--namespace", "default"], "--data-dir"),
        ] {
            let (code, told) = ran(arguments, (variable, value));
            assert_eq!((code, told.lines().count()), (Some(64), 1), "{arguments:?}: {told}");
            assert!([variable, store, instead, "--data-dir"].iter().all(|part| told.contains(part)), "{told}");
        }
        assert!(!copy.exists());
        let (code, told) = ran(&["repair", "--dry-run", "--data-dir", text(&data)], (variable, value));
        assert_eq!(code, Some(0), "a directory that is named is meant: {told}");
        let rotate = ["token", "rotate", "default", "--data-dir", text(&data)];
        let before = read(&data);
        let (code, told) = ran(&rotate, (variable, value));
        assert_eq!(code, Some(0), "{told}");
        assert_ne!(read(&data), before, "it was rotated in the directory");
    }
    let (code, told) = ran(&["backup", "--output", text(&copy)], ("EVENTODB_DB_URL", "sqlite://shop"));
    assert_eq!(code, Some(0), "{told}");
    let token = |directory: &Path| {
        let listed = eventodb(&["token", "list", "--json", "--data-dir", text(directory)]).output().expect("ran");
        serde_json::from_slice::<Value>(&listed.stdout).expect("JSON")[0]["id"].clone()
    };
    assert_eq!(token(&copy), token(&data.join("shop")), "the store that the variable names is copied");
    assert_ne!(token(&copy), token(&data));
}

#[test]
fn a_new_data_directory_among_other_files_is_warned_of() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join(".profile"), "").expect("the folder is ours");
    let server = Server::start(&["--data-dir", text(folder.path())], &[]);
    let warned = server.logged("has other files").unwrap_or_else(|| panic!("{:?}", server.log));
    assert_eq!((&warned["level"], &warned["files"]), (&"WARN".into(), &".profile".into()));
    server.stop();
    let server = Server::start(&["--data-dir", text(folder.path())], &[]);
    assert!(server.logged("has other files").is_none(), "it is a store now");
}

fn read(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("admin-token")).expect("the token's file").trim().to_owned()
}

#[test]
fn a_command_that_is_interrupted_is_130() {
    let server = Server::start(&["--test-mode"], &[]);
    let mut child = eventodb(&["append", "--url", &server.url]);
    let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    // `wait` would close its input, and the end of its input would end it too.
    let _input = child.stdin.take().expect("its input");
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    // Until it handles the signal, the signal would kill it.
    let caught = |status: String| {
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:").map(str::trim).map(str::to_owned));
        caught.and_then(|mask| u64::from_str_radix(&mask, 16).ok()).is_some_and(|mask| mask & 0b10 != 0)
    };
    while !caught(std::fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    assert_eq!(child.wait().expect("ended").code(), Some(130));
}

#[test]
fn a_wrong_word_is_told_with_what_is_near_it_and_with_the_help_of_its_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let renamed = folder.path().join("another-name");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_eventodb"), &renamed).expect("the folder is ours");
    for (arguments, told) in [
        (&["serve", "--prot", "1"][..], &["--prot", "did you mean --port?", "`eventodb serve --help`"][..]),
        (
            &["--log-level", "inf"],
            &["error, warn, info, debug, trace", "did you mean info?", "`eventodb serve --help`"],
        ),
        (&["ns", "creat", "x"], &["did you mean create?", "`eventodb ns --help`"]),
        (&["ns", "create"], &["<NAME>", "`eventodb ns create --help`"]),
        (&["writ"], &["did you mean write?", "`eventodb --help`"]),
    ] {
        for program in [env!("CARGO_BIN_EXE_eventodb"), text(&renamed)] {
            let (code, line) = outcome(Command::new(program).args(arguments));
            assert_eq!((code, line.lines().count()), (Some(64), 1), "{line}");
            for words in told {
                assert!(line.contains(words), "{program} {arguments:?}: {words} is not in {line}");
            }
        }
    }
}

#[test]
fn what_is_allowed_and_not_wise_is_warned_about() {
    let server = Server::start(&["--db-url", "sqlite://:memory:", "--token", &token("4d")], &[]);
    assert_eq!(server.logged("may be guessed").expect("a warning")["level"], "WARN");
    drop(server);
    // An address that no host has, by RFC 5737.
    let start = |options: &str| {
        let url = format!("postgres://nobody@192.0.2.1:1/none{options}");
        outcome(&mut eventodb(&["serve", "--port", "0", "--pg-connect-timeout-ms", "100", "--db-url", &url])).1
    };
    for (options, is_warned) in
        [("", true), ("?sslmode=prefer", true), ("?sslmode=require", false), ("?sslmode=disable", false)]
    {
        let told = start(options);
        assert_eq!(told.contains("sslmode=prefer lets sessions"), is_warned, "{options}: {told}");
    }
}
