//! The layers of the settings of `serve`: the file, variables and flags, and `eventodb config`.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{eventodb, started};

/// A file of settings in a folder of its own.
struct File {
    folder: tempfile::TempDir,
}

impl File {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = Self { folder };
        std::fs::write(file.path(), text).expect("the folder is ours");
        file.may_be_read_by(0o600);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("eventodb.toml")
    }

    fn may_be_read_by(&self, mode: u32) {
        std::fs::set_permissions(self.path(), PermissionsExt::from_mode(mode)).expect("the file is ours");
    }

    /// A command with this file.
    fn given_to(&self, arguments: &[&str]) -> Command {
        let mut command = eventodb(arguments);
        command.arg("--config").arg(self.path());
        command
    }

    /// How a line is named.
    fn line(&self, number: usize) -> String {
        format!("{}:{number}", self.path().display())
    }
}

/// The exit code, standard output and standard error.
fn ran(command: &mut Command) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("ran");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

/// What `config show` tells of a setting: its value and where that comes from.
fn shown(command: &mut Command, name: &str) -> (Value, String) {
    let (code, out, err) = ran(command.arg("--json"));
    assert_eq!(code, 0, "{err}");
    let all: Value = serde_json::from_str(&out).expect("JSON");
    let setting = all["settings"].as_array().and_then(|all| all.iter().find(|setting| setting["name"] == name));
    let setting = setting.unwrap_or_else(|| panic!("{name} is not in {out}"));
    (setting["value"].clone(), setting["from"].as_str().expect("a text").to_owned())
}

#[test]
fn each_layer_takes_precedence_over_those_beneath_it() {
    let file = File::with("\nlog-level = \"warn\"\n");
    let show = |variable: Option<&str>, flags: &[&str]| {
        let mut command = file.given_to(&[&["config", "show"], flags].concat());
        command.envs(variable.map(|value| ("EVENTODB_LOG_LEVEL", value)));
        shown(&mut command, "log-level")
    };
    assert_eq!(shown(&mut eventodb(&["config", "show"]), "log-level"), ("info".into(), "default".to_owned()));
    assert_eq!(show(None, &[]), ("warn".into(), file.line(2)));
    assert_eq!(show(Some("error"), &[]), ("error".into(), "EVENTODB_LOG_LEVEL".to_owned()));
    assert_eq!(show(Some("error"), &["--log-level", "debug"]), ("debug".into(), "flag".to_owned()));
    let mut by_variable = eventodb(&["config", "show"]);
    by_variable.env("EVENTODB_CONFIG", file.path());
    assert_eq!(shown(&mut by_variable, "log-level"), ("warn".into(), file.line(2)));
}

#[test]
fn a_file_has_every_kind_of_value() {
    let file = File::with(
        "port = 0x1F90\nmax-body-bytes = 1_000_000\ntest-mode = true\naccess-log = false\nauto-migrate = false\n\
         trusted-proxy = [\"10.0.0.0/8\", \"::1\"]\npg-prepare = \"off\"\ndata-dir = \"a b\"\n",
    );
    for (name, value) in [
        ("port", "8080"),
        ("max-body-bytes", "1000000"),
        ("test-mode", "true"),
        ("access-log", "false"),
        ("auto-migrate", "false"),
        ("trusted-proxy", "10.0.0.0/8,::1"),
        ("pg-prepare", "off"),
        ("data-dir", "a b"),
    ] {
        assert_eq!(shown(&mut file.given_to(&["config", "show"]), name).0, value, "{name}");
    }
}

#[test]
fn what_cannot_be_together_is_decided_by_the_higher_layer() {
    let file = File::with("token-file = \"/nowhere\"\ndb-url = \"postgres://me:s3cret@localhost/events\"\n");
    let token = format!("ns_ZGVmYXVsdA_{}", "1a2b3c4d".repeat(8));
    let show = |name| {
        let mut command = file.given_to(&["config", "check", "--token", &token, "--db-url-file", "/dev/null"]);
        let (code, _, err) = ran(&mut command);
        assert_eq!((code, err.contains("--db-url-file")), (64, true), "the flag's file is read, which is empty: {err}");
        shown(file.given_to(&["config", "show"]).env("EVENTODB_SERVE_TOKEN", &token), name)
    };
    assert_eq!(show("token"), ("…".into(), "EVENTODB_SERVE_TOKEN".to_owned()));
    assert_eq!(show("token-file"), (Value::Null, "default".to_owned()));
    assert_eq!(show("db-url"), ("…".into(), file.line(2)));
}

#[test]
fn check_tells_every_error_of_a_file_with_its_line_and_serve_the_first() {
    let file = File::with(
        "prot = 80\nport = \"http\"\ntest-mode = \"yes\"\nlog-level = \"loud\"\nheartbeat_ms = 1\n[times]\n",
    );
    let (code, out, err) = ran(&mut file.given_to(&["config", "check"]));
    assert_eq!((code, out.as_str()), (64, ""));
    let told: Vec<&str> = err.lines().collect();
    for (at, parts) in [
        &["there is no setting \"prot\"; did you mean port?"][..],
        &["'http'", "--port", "Port to listen on"],
        &["'yes'", "--test-mode", "it may be 1, true, 0, false"],
        &["'loud'", "it may be error, warn, info, debug, trace"],
        &["\"heartbeat_ms\"; did you mean heartbeat-ms?"],
        &["the file has no sections"],
    ]
    .iter()
    .enumerate()
    {
        let line = told.get(at).unwrap_or_else(|| panic!("{err}"));
        assert!(line.contains(&file.line(at + 1)) && parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
    assert_eq!(told.len(), 6, "{err}");
    let (code, _, err) = ran(&mut file.given_to(&["serve"]));
    assert_eq!((code, err.lines().count()), (64, 1), "{err}");
    assert!(err.contains(&file.line(1)) && err.contains("5 more"), "{err}");
}

#[test]
fn check_tells_every_error_of_the_file_the_variables_and_the_flags() {
    let file = File::with("prot = 80\nheartbeat-ms = \"soon\"\npg-pool-min = 9\ntls-key = \"/nowhere/key.pem\"\n");
    let origin = file.line(3);
    let flags = ["--port", "http", "--log-level", "loud", "--memory-budget", "1", "--cors-origin", "shop"];
    let with = |command: &[&str]| {
        let mut command = file.given_to(&[command, &flags].concat());
        let variables = [
            ("EVENTODB_BATCH_BYTES", "many"),
            ("EVENTODB_DB_URL", "postgres://localhost/events"),
            ("EVENTODB_PG_POOL_MAX", "8"),
            ("EVENTODB_SERVE_TOKEN", "secret"),
        ];
        ran(command.envs(variables))
    };
    let (code, out, err) = with(&["config", "check"]);
    assert_eq!((code, out.as_str()), (64, ""));
    for parts in [
        &[&*file.line(1), "did you mean port?"][..],
        &[&*file.line(2), "'soon'", "--heartbeat-ms"],
        &["'http'", "--port"],
        &["'loud'", "--log-level", "it may be error"],
        &["EVENTODB_BATCH_BYTES: ", "'many'", "--batch-bytes"],
        &["--pg-pool-min must be at most --pg-pool-max", &*origin, "--pg-pool-max is from EVENTODB_PG_POOL_MAX"],
        &["--memory-budget must be at least"],
        &["--cors-origin takes origins"],
        &["--tls-key: cannot read", "/nowhere/key.pem"],
        &["--tls-cert is missing"],
        &["--token: ", "EVENTODB_SERVE_TOKEN"],
    ] {
        assert!(err.lines().any(|line| parts.iter().all(|part| line.contains(part))), "{parts:?}: {err}");
    }
    assert_eq!(err.lines().count(), 11, "{err}");
    let (code, _, err) = with(&["serve"]);
    assert_eq!((code, err.lines().count()), (64, 1), "{err}");
    assert!(err.contains("10 more: see `eventodb config check`"), "{err}");
}

#[test]
fn what_follows_from_an_error_is_not_told_as_another() {
    let file = File::with("pg-pool-min = 50\n");
    let database = "--db-url=postgres://localhost/events?sslmode=disable";
    let (code, _, err) = ran(&mut file.given_to(&["config", "check", database, "--pg-pool-max", "many"]));
    assert_eq!((code, err.lines().count()), (64, 1), "the default of --pg-pool-max is not what was meant: {err}");
    let missing = ["config", "check", "--tls-key", "/nowhere/key.pem", "--config", "/nowhere/eventodb.toml"];
    let (code, _, err) = ran(&mut eventodb(&missing));
    assert_eq!((code, err.lines().count()), (64, 1), "the certificate may be in the file: {err}");
    let both = ["config", "check", "--db-url", "sqlite://a", "--db-url-file", "b", "--port", "http"];
    let (code, _, err) = ran(&mut eventodb(&both));
    assert!(code == 64 && err.contains("'http'") && err.contains("cannot be used with"), "{err}");
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let told = |command: &mut Command| {
        let (code, _, err) = ran(command);
        assert_eq!(code, 0, "{err}");
        err.lines().map(|line| line.trim_start_matches("eventodb: warning: ").to_owned()).collect::<Vec<_>>()
    };
    let database = "postgres://localhost/events?sslmode=disable";
    let sqlite = "has no effect: the store is on SQLite";
    let postgres = "has no effect: the store is on PostgreSQL";
    let file = File::with("pg-pool-max = 8\nauto-migrate = false\npoll-interval-ms = 100\n");
    let mut command = file.given_to(&["config", "check", "--listen-url", database]);
    let (second, first) = (file.line(2), file.line(1));
    assert_eq!(
        told(command.env("EVENTODB_PG_PREPARE", "off")),
        [
            format!("--pg-pool-max ({first}) {sqlite}"),
            format!("--pg-prepare (EVENTODB_PG_PREPARE) {sqlite}"),
            format!("--listen-url {sqlite}"),
            format!("--auto-migrate ({second}) {sqlite}"),
        ]
    );
    let file = File::with("data-dir = \"/var/lib/eventodb\"\nreaders = 4\n");
    let mut command = file.given_to(&["config", "check", "--db-url", database]);
    let (first, second) = (file.line(1), file.line(2));
    let on_postgres = [format!("--data-dir ({first}) {postgres}"), format!("--readers ({second}) {postgres}")];
    assert_eq!(told(&mut command), on_postgres);
    let token = format!("ns_ZGVmYXVsdA_{}", "1a2b3c4d".repeat(8));
    let in_memory = ["config", "check", "--db-url", "sqlite://:memory:", "--min-free", "1", "--data-dir", "x"];
    assert_eq!(
        told(eventodb(&in_memory).args([
            "--token",
            &token,
            "--token-out",
            "x",
            "--allowed-host",
            "shop",
            "--readers",
            "4"
        ])),
        [
            "--data-dir has no effect: the store is in memory",
            "--token-out has no effect: no token is made, because one is given",
            "--allowed-host has no effect: it is for --test-mode",
            "--min-free has no effect: the store is in memory",
        ]
    );
    // What the image of a container sets for whatever its user chooses.
    let image = [("EVENTODB_DATA_DIR", "/var/lib/eventodb"), ("EVENTODB_SERVE_TOKEN_OUT", "/var/lib/eventodb/token")];
    let mut command = eventodb(&["config", "check", "--db-url", database, "--token", &token]);
    assert_eq!(told(command.envs(image)), [""; 0]);
    let test_mode =
        ["config", "check", "--test-mode", "--allow-insecure", "--allowed-host", "shop", "--poll-interval-ms", "9"];
    assert_eq!(told(&mut eventodb(&test_mode)), [""; 0]);
    let mut command = eventodb(&["serve", "--port", "0", "--db-url", "sqlite://:memory:", "--token", &token]);
    command.args(["--log-format", "json", "--pg-pool-max", "9", "--host", "no.such.host.invalid"]);
    let (_, _, err) = ran(&mut command);
    let line = err.lines().find(|line| line.contains("--pg-pool-max has no effect")).unwrap_or_else(|| panic!("{err}"));
    assert!(line.contains("\"WARN\""), "{line}");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_the_line() {
    let file = File::with("port = 8080\nhost = = 3\nport = 1\n");
    let (code, _, err) = ran(&mut file.given_to(&["config", "check"]));
    assert!(code == 64 && err.contains(&file.line(2)) && err.contains(&file.line(3)), "{err}");
    let missing = Path::new("/nowhere/eventodb.toml");
    let (code, _, err) = ran(eventodb(&["config", "check", "--config"]).arg(missing));
    assert!(code == 64 && err.contains("--config") && err.contains("/nowhere/eventodb.toml"), "{err}");
}

#[test]
fn settings_that_do_not_fit_together_are_refused_wherever_they_stand() {
    let file = File::with("pg-pool-min = 9\ndb-url = \"postgres://localhost/events\"\n");
    let (code, _, err) = ran(&mut file.given_to(&["config", "check", "--pg-pool-max", "8"]));
    assert!(code == 64 && err.contains("--pg-pool-min must be at most --pg-pool-max"), "{err}");
    let file = File::with("tls-key = \"key.pem\"\n");
    let (code, _, err) = ran(&mut file.given_to(&["config", "check"]));
    assert!(code == 64 && err.contains("--tls-cert is missing"), "{err}");
}

#[test]
fn only_check_warns_of_variables_that_no_command_knows() {
    for (arguments, warned) in [(["config", "check"], true), (["config", "show"], false)] {
        let (code, _, err) = ran(eventodb(&arguments).env("EVENTODB_MAX_IMPROTS", "3"));
        assert_eq!(
            (code, err.contains("EVENTODB_MAX_IMPROTS; did you mean EVENTODB_MAX_IMPORTS?")),
            (0, warned),
            "{err}"
        );
    }
}

#[test]
fn a_secret_in_the_file_is_hidden_and_other_readers_are_warned_of() {
    let secret = "5f3a".repeat(16);
    let file = File::with(&format!("token = \"ns_ZGVmYXVsdA_{secret}\"\nprt = \"ns_ZGVmYXVsdA_{secret}\"\n"));
    let (_, out, err) = ran(&mut file.given_to(&["config", "check"]));
    assert!(err.contains("did you mean port") && !format!("{out}{err}").contains(&secret), "{out}{err}");
    let file = File::with(&format!("token = \"ns_ZGVmYXVsdA_{secret}\"\n"));
    for (mode, warned) in [(0o600, false), (0o640, false), (0o644, true)] {
        file.may_be_read_by(mode);
        let (code, out, err) = ran(&mut file.given_to(&["config", "check"]));
        assert_eq!((code, err.contains("chmod 600")), (0, warned), "{mode:o}: {err}");
        assert!(!format!("{out}{err}").contains(&secret));
        let (_, out, err) = ran(&mut file.given_to(&["config", "show"]));
        assert!(!format!("{out}{err}").contains(&secret), "{out}{err}");
    }
}

#[test]
fn a_server_starts_by_its_file() {
    let file = File::with("port = 0\ntest-mode = true\nmax-name-bytes = 9\n");
    let (_server, url) = started(file.given_to(&["serve"]));
    let write = |stream| ran(&mut eventodb(&["write", stream, "T", "--url", &url]));
    assert_eq!(write("a-1").0, 0);
    let (code, _, err) = write("a-1234567890");
    assert!(code == 1 && err.contains("9 bytes"), "{err}");
}

/// The profiles that ship, and the flags that fit each to a machine of tests: to check it, and to start it.
fn profiles(folder: &Path) -> [(&'static str, Vec<String>, Vec<String>); 3] {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let at = |name: &str| folder.join(name).to_str().expect("a temporary folder's name").to_owned();
    let (certificate, key, token) = (at("tls.crt"), at("tls.key"), at("admin-token"));
    std::fs::write(&certificate, certified.cert.pem()).expect("the folder is ours");
    std::fs::write(&key, certified.signing_key.serialize_pem()).expect("the folder is ours");
    let tls = [("--tls-cert", certificate), ("--tls-key", key)].map(|(flag, file)| format!("{flag}={file}"));
    let start = |own: &[String]| [&["--host=127.0.0.1".to_owned(), "--port=0".to_owned()], own].concat();
    let memory = ["--db-url=sqlite://:memory:".to_owned(), format!("--token-out={token}")];
    [
        ("development", Vec::new(), start(&[])),
        ("production", tls.to_vec(), start(&[&tls[..], &[format!("--data-dir={}", at("data"))]].concat())),
        ("high-scale", vec!["--db-url=postgres://localhost/events?sslmode=disable".to_owned()], start(&memory)),
    ]
}

#[test]
fn each_profile_is_right_and_starts_a_server() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, to_check, to_start) in profiles(folder.path()) {
        let file = format!("{}/../ops/config/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let (code, _, err) = ran(eventodb(&["config", "check", "--config", &file]).args(to_check));
        assert_eq!((code, err.as_str()), (0, ""), "{name}");
        let mut command = eventodb(&["serve", "--config", &file, "--log-format", "console"]);
        command.args(to_start);
        let (_server, url) = started(command);
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_ok(), "{name}");
    }
}

#[test]
fn the_configuration_of_the_debian_package_is_right() {
    let file = format!("{}/../ops/package/debian/eventodb.toml", env!("CARGO_MANIFEST_DIR"));
    let (code, _, err) = ran(&mut eventodb(&["config", "check", "--config", &file]));
    assert_eq!((code, err.as_str()), (0, ""));
}
