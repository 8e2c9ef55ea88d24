//! `eventodb doctor`: it names each fault that is planted in a host, and nothing on a sound one.
//!
//! A disk that is slow, remote or read-only, little memory and a clock that differs from the database's are planted as
//! figures, in the tests of `commands::doctor`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use eventodb_store::testing::Disk;
use eventodb_testing::pooler::Pooler;
use eventodb_testing::postgres::{self, Server};
use serde_json::Value;

use crate::support::{eventodb, eventodb_by, started};

const TOKEN: &str = "ns_ZGVmYXVsdA_0123456789abcdef02468ace13579bdffdb97531eca86420f0e1d2c3b4a59687";
/// As many as the limits on open files of most machines allow.
const FEW: [&str; 2] = ["--max-connections", "100"];

/// The exit code and the codes of what was found.
fn diagnosis(mut command: Command) -> (Option<i32>, BTreeSet<String>) {
    let output = command.output().expect("ran");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {told}"));
    let findings = found["findings"].as_array().expect("a list");
    for finding in findings {
        for part in ["severity", "what", "why", "cure"] {
            assert!(finding[part].as_str().is_some_and(|text| !text.is_empty()), "{part} of {finding}");
        }
    }
    let codes = findings.iter().map(|finding| finding["code"].as_str().expect("a code").to_owned());
    (output.status.code(), codes.collect())
}

fn doctor(arguments: &[&str]) -> Command {
    eventodb(&[&["doctor", "--json"], &FEW[..], arguments].concat())
}

/// What the doctor finds beside a disk that is slow now because others write to it.
fn found(arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    loop {
        let (code, codes) = diagnosis(doctor(arguments));
        if !codes.contains("DISK_SLOW") {
            return (code, codes.into_iter().collect());
        }
    }
}

fn assert_found(arguments: &[&str], exit: i32, codes: &[&str]) {
    let (code, found) = found(arguments);
    assert_eq!((code, &found.iter().map(String::as_str).collect::<Vec<_>>()[..]), (Some(exit), codes), "{arguments:?}");
}

/// A folder on the disk of what is built: that of temporary files is in memory on many machines, which is a fault.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo makes the folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name")
}

/// A store with a message, made by a server that has ended.
fn store(directory: &Path) {
    let mut server = eventodb(&["serve", "--port", "0", "--data-dir", text(directory), "--token", TOKEN]);
    let (_running, url) = started({
        server.stderr(Stdio::null());
        server
    });
    let written = eventodb(&["write", "a-1", "T", "--url", &url, "--token", TOKEN]).output().expect("ran");
    assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).expect("it is there").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// The words of a text that look like a code.
fn codes(text: &str, quote: char) -> BTreeSet<String> {
    let is_code = |word: &&str| {
        word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_') && !word.starts_with('_')
    };
    text.split(quote).filter(is_code).map(ToOwned::to_owned).collect()
}

#[test]
fn the_document_has_each_code_and_no_other() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| std::fs::read_to_string(path).expect("it is in the repository");
    let sources = std::fs::read_dir(crate_folder.join("src/commands/doctor")).expect("it is in the repository");
    let named: BTreeSet<String> = sources.flat_map(|file| codes(&read(&file.expect("readable").path()), '"')).collect();
    let document = read(&crate_folder.join("../docs/OPERATIONS.md"));
    let (_, section) = document.split_once("\n## What is wrong with the host\n").expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let table: String = section.lines().filter(|line| line.starts_with('|')).collect();
    assert_eq!(named, codes(&table, '`'));
    assert!(named.len() > 40, "{named:?}");
}

#[test]
fn a_sound_data_directory_has_no_fault_and_stays_as_it_is() {
    let folder = folder();
    let data = folder.path().join("data");
    assert_found(&["--data-dir", text(&data)], 0, &[]);
    assert!(!data.exists(), "nothing is made");
    store(&data);
    let before = names(&data);
    assert_found(&["--data-dir", text(&data)], 0, &[]);
    assert_eq!(names(&data), before);
    let mut server = eventodb(&["serve", "--port", "0", "--data-dir", text(&data)]);
    server.stderr(Stdio::null());
    let _running = started(server);
    assert_found(&["--data-dir", text(&data)], 0, &[]);
    let printed = loop {
        let output = eventodb(&["doctor", "--data-dir", text(&data), FEW[0], FEW[1]]).output().expect("ran");
        if output.status.success() {
            break String::from_utf8(output.stdout).expect("UTF-8");
        }
    };
    assert!(printed.ends_with("nothing is wrong\n"), "{printed}");
}

#[test]
fn faults_of_files_and_settings_are_named() {
    let folder = folder();
    let data = folder.path().join("data");
    store(&data);
    let at = ["--data-dir", text(&data)];
    let chmod = |path: &Path, mode: u32| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    chmod(&data, 0o755);
    assert_found(&at, 1, &["DIRECTORY_OPEN"]);
    chmod(&data, 0o700);
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("the folder is ours");
    chmod(&token, 0o644);
    assert_found(&[&at[..], &["--token-file", text(&token)]].concat(), 1, &["SECRET_OPEN"]);
    chmod(&token, 0o600);
    assert_found(&[&at[..], &["--token-file", text(&token)]].concat(), 0, &[]);

    let config = folder.path().join("eventodb.toml");
    std::fs::write(&config, "port = 8080\nprt = 1\n").expect("the folder is ours");
    assert_found(&[&at[..], &["--config", text(&config)]].concat(), 2, &["SETTING_WRONG"]);
    assert_found(&[&at[..], &["--host", "0.0.0.0"]].concat(), 1, &["SETTING_UNSAFE"]);
    let mut stray = doctor(&at);
    stray.env("EVENTODB_PROT", "1");
    let codes = diagnosis(stray).1;
    assert!(codes.contains("VARIABLE_UNKNOWN"), "{codes:?}");

    for beside in ["registry.db-wal", "registry.db-shm"] {
        let _ = std::fs::remove_file(data.join(beside));
    }
    std::fs::write(data.join("registry.db"), [b'x'; 8192]).expect("the folder is ours");
    assert_found(&at, 2, &["STORE_UNREADABLE"]);
}

#[test]
fn a_directory_of_others_is_named() {
    let folder = folder();
    let data = folder.path().join("data");
    std::fs::DirBuilder::new().mode(0o700).create(&data).expect("the folder is ours");
    std::fs::write(data.join(".profile"), "").expect("the folder is ours");
    assert_found(&["--data-dir", text(&data)], 1, &["DIRECTORY_FOREIGN"]);
    std::fs::write(data.join("PG_VERSION"), "15").expect("the folder is ours");
    assert_found(&["--data-dir", text(&data)], 2, &["DIRECTORY_FOREIGN"]);
}

#[test]
fn a_certificate_that_has_expired_and_one_that_soon_will_are_named() {
    const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
    let folder = folder();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let now = std::time::SystemTime::now();
    for (end, exit, codes) in [
        (now + 300 * DAY, 0, &[][..]),
        (now + 3 * DAY, 1, &["CERTIFICATE_ENDS"]),
        (now - DAY, 2, &["CERTIFICATE_INVALID"]),
    ] {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).expect("a good name");
        parameters.not_after = end.into();
        let pair = rcgen::KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&pair).expect("good parameters");
        std::fs::write(&cert, certificate.pem()).expect("the folder is ours");
        std::fs::write(&key, pair.serialize_pem()).expect("the folder is ours");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("it is ours");
        let data = folder.path().join("data");
        let tls = ["--data-dir", text(&data), "--tls-cert", text(&cert), "--tls-key", text(&key)];
        assert_found(&tls, exit, codes);
    }
}

#[test]
fn a_token_that_expires_tomorrow_and_a_message_of_the_future_are_named() {
    let folder = folder();
    let data = folder.path().join("data");
    store(&data);
    let now = eventodb_protocol::Timestamp::now().as_micros();
    let ends = |hours: i64| eventodb_protocol::Timestamp::from_micros(now + hours * 3_600_000_000).to_string();
    for hours in [24, 24 * 365] {
        let end = ends(hours);
        let create = ["token", "create", "--rights", "read", "--data-dir", text(&data), "--expires-at", &end];
        assert!(eventodb(&create).stderr(Stdio::null()).output().expect("ran").status.success());
    }
    assert_found(&["--data-dir", text(&data)], 1, &["TOKEN_ENDS"]);
    let log = rusqlite::Connection::open(data.join("1.log.db")).expect("it is there");
    log.execute("UPDATE messages SET time = time + 3600000000", []).expect("good SQL");
    drop(log);
    assert_found(&["--data-dir", text(&data)], 2, &["CLOCK_BEHIND_LOG", "TOKEN_ENDS"]);
}

#[test]
fn few_descriptors_are_named() {
    let folder = folder();
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 256; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_eventodb")]);
    let (code, codes) = diagnosis(eventodb_by(limited, &["doctor", "--json", "--data-dir", text(folder.path())]));
    assert_eq!(code, Some(2));
    assert!(codes.contains("DESCRIPTORS_FEW"), "{codes:?}");
}

/// It needs a process that may mount; without, the figures of `commands::doctor` stand for it.
#[test]
fn a_disk_without_room_is_named() {
    let Some(disk) = Disk::mount(4 << 20) else { return };
    let data = disk.path().join("data");
    assert_found(&["--data-dir", text(&data)], 2, &["DISK_FULL", "DISK_IN_MEMORY"]);
    let without_reserve = ["--data-dir", text(&data), "--min-free", "0"];
    assert_found(&without_reserve, 2, &["DISK_IN_MEMORY"]);
    let mut filler = std::fs::File::create(disk.path().join("filler")).expect("there is room");
    while filler.write_all(&[0; 4096]).is_ok() {}
    assert_found(&without_reserve, 2, &["DISK_FULL", "DISK_IN_MEMORY"]);
}

/// The URL of a database for this role.
fn url_of(url: &str, role: &str) -> String {
    let (_, place) = url.split_once('@').expect("a URL with a user");
    format!("postgres://{role}:secret@{place}?sslmode=disable")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_database_has_no_fault() {
    let server = Server::start(&[]);
    server.stop("fast");
    let mut checksums = postgres::unprivileged(Command::new(postgres::program("pg_checksums")), server.folder());
    let enabled = checksums.arg("--enable").arg("-D").arg(server.folder().join("data")).output().expect("ran");
    assert!(enabled.status.success(), "{}", String::from_utf8_lossy(&enabled.stderr));
    server.start_again();
    let url = postgres::create_database(&server.url("postgres"), "ENCODING 'UTF8'").await + "?sslmode=disable";
    assert_found(&["--db-url", &url], 0, &[]);
    let mut serve = eventodb(&["serve", "--port", "0", "--db-url", &url, "--token", TOKEN]);
    serve.stderr(Stdio::null());
    let (_running, address) = started(serve);
    let written = eventodb(&["write", "a-1", "T", "--url", &address, "--token", TOKEN]).output().expect("ran");
    assert!(written.status.success());
    assert_found(&["--db-url", &url], 0, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_database_are_named() {
    let server = Server::start(&["fsync=off", "full_page_writes=off", "max_connections=20"]);
    let superuser = server.url("postgres");
    let url = postgres::create_database(&superuser, "ENCODING 'UTF8'").await;
    let plain = url.clone() + "?sslmode=disable";
    let host = ["CHECKSUMS_OFF", "FSYNC_OFF", "FULL_PAGE_WRITES_OFF", "SESSIONS_FEW"];
    assert_found(&["--db-url", &plain], 2, &host);
    postgres::run(
        &superuser,
        "CREATE ROLE poor LOGIN PASSWORD 'secret';
         CREATE ROLE lost LOGIN SUPERUSER PASSWORD 'secret';
         ALTER ROLE lost SET search_path = 'evil, pg_catalog';
         ALTER ROLE lost SET synchronous_commit = off;
         ALTER ROLE lost SET default_transaction_read_only = on",
    )
    .await;
    let with = |more: &[&'static str]| {
        let mut codes = [&host[..], more].concat();
        codes.sort_unstable();
        codes
    };
    assert_found(&["--db-url", &url_of(&url, "poor")], 2, &with(&["PRIVILEGE_MISSING"]));
    let session = ["SEARCH_PATH", "SYNCHRONOUS_COMMIT", "DATABASE_READ_ONLY"];
    assert_found(&["--db-url", &url_of(&url, "lost")], 2, &with(&session));
    let nobody = format!("postgres://nobody:secret@127.0.0.1:{}/none?sslmode=disable", server.port());
    assert_found(&["--db-url", &nobody], 2, &["DATABASE_REFUSES"]);
    let missing = server.url("missing") + "?sslmode=disable";
    assert_found(&["--db-url", &missing], 2, &["DATABASE_MISSING"]);
    assert_found(&["--db-url", "postgres://nobody@127.0.0.1:1/none?sslmode=disable"], 2, &["DATABASE_UNREACHABLE"]);
    // A server of a version before 0.2.0 named its sessions so.
    let (older, connection) =
        tokio_postgres::connect(&format!("{url}?application_name=eventodb"), tokio_postgres::NoTls)
            .await
            .expect("it lets us in");
    let driver = tokio::spawn(connection);
    older.simple_query("SELECT 1").await.expect("good SQL");
    assert_found(&["--db-url", &plain], 2, &with(&["SERVERS_DIFFER"]));
    drop(older);
    driver.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_changes_connections_is_found() {
    let url = postgres::database().await;
    let pooler = Pooler::start(&url, 4).await;
    let pooled = pooler.url(&url) + "?sslmode=disable";
    let told = |arguments: &[&str]| found(&[&["--db-url"], arguments].concat()).1;
    let of_pooler =
        |codes: &[String]| codes.iter().filter(|code| code.starts_with("POOLER")).cloned().collect::<Vec<_>>();
    assert_eq!(of_pooler(&told(&[&pooled])), ["POOLER_PREPARES"]);
    assert_eq!(of_pooler(&told(&[&pooled, "--pg-prepare", "off"])), ["POOLER_SILENT"]);
    let direct = url.clone() + "?sslmode=disable";
    assert_eq!(of_pooler(&told(&[&pooled, "--pg-prepare", "off", "--listen-url", &direct])), [""; 0]);
    assert_eq!(of_pooler(&told(&[&direct])), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_database_holds_is_looked_at() {
    let url = postgres::database().await;
    let plain = url.clone() + "?sslmode=disable";
    let mut serve = eventodb(&["serve", "--port", "0", "--db-url", &plain, "--token", TOKEN]);
    serve.stderr(Stdio::null());
    let (running, address) = started(serve);
    let written = eventodb(&["write", "a-1", "T", "--url", &address, "--token", TOKEN]).output().expect("ran");
    assert!(written.status.success());
    let end =
        eventodb_protocol::Timestamp::from_micros(eventodb_protocol::Timestamp::now().as_micros() + 86_400_000_000);
    let end = end.to_string();
    let create = ["token", "create", "--rights", "read", "--db-url", &plain, "--expires-at", &end];
    assert!(eventodb(&create).stderr(Stdio::null()).output().expect("ran").status.success());
    drop(running);
    postgres::run(
        &url,
        "UPDATE eventodb_1.batches SET time = time + interval '1 hour' WHERE last_position > 0;
         INSERT INTO eventodb.migrations VALUES (1000, '99.0.0', now())",
    )
    .await;
    let codes = found(&["--db-url", &plain]).1;
    for code in ["CLOCK_BEHIND_LOG", "TOKEN_ENDS", "SCHEMA_NEWER"] {
        assert!(codes.iter().any(|found| found == code), "{code}: {codes:?}");
    }
    postgres::run(&url, "DELETE FROM eventodb.migrations WHERE version IN (1000, 7)").await;
    let codes = found(&["--db-url", &plain]).1;
    assert!(codes.iter().any(|found| found == "MIGRATION_NEEDED"), "{codes:?}");
    let is_missing = || found(&["--db-url", &plain]).1.iter().any(|found| found == "MESSAGES_MISSING");
    assert!(!is_missing(), "the message is there");
    postgres::run(&url, "TRUNCATE eventodb_1.messages").await;
    assert!(is_missing());
}
