//! The examples of the client, started as a user would.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use eventodb_testing::postgres;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::server::{BINARY, Server, TOKEN};

/// How the variables begin that describe a package.
const PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// The program of an example of the client.
pub(super) async fn example(name: &str) -> PathBuf {
    static BUILT: OnceCell<PathBuf> = OnceCell::const_new();
    BUILT.get_or_init(build).await.join(name)
}

/// Builds the examples. `cargo test` for the whole workspace has built them already.
async fn build() -> PathBuf {
    let folder = Path::new(BINARY).parent().expect("a binary is in a folder").to_owned();
    let mut command = Command::new(env!("CARGO"));
    // What cargo tells a test of its package. Build scripts that look at it would run again, and all that needs them.
    let of_package = |name: &OsString| name.to_str().is_some_and(|name| PACKAGE.iter().any(|of| name.starts_with(of)));
    for (name, _) in std::env::vars_os().filter(|(name, _)| of_package(name)) {
        command.env_remove(name);
    }
    command.args(["build", "--locked", "--quiet", "--workspace", "--all-features", "--examples"]);
    if folder.ends_with("release") {
        command.arg("--release");
    }
    assert!(command.status().await.expect("cargo is there").success());
    folder.join("examples")
}

/// The output of an example, which must succeed.
async fn prints(server: &Server, name: &str, arguments: &[&str]) -> String {
    let output = Command::new(example(name).await)
        .args(arguments)
        .env("EVENTODB_URL", server.url())
        .env("EVENTODB_TOKEN", TOKEN)
        .output()
        .await
        .expect("the example starts");
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

async fn with_server(directory: &tempfile::TempDir) -> Server {
    Server::start(&directory.path().join("data"), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bank_account() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = with_server(&directory).await;
    let printed = prints(&server, "bank_account", &[]).await;
    assert!(printed.contains(": balance 200 after 40 movements\n"), "{printed}");
    assert!(printed.ends_with("the second withdrawal of 150 is refused: 50 left\n"), "{printed}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfer() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = with_server(&directory).await;
    let printed = prints(&server, "transfer", &[]).await;
    assert_eq!(printed, "20 transfers of 7 requested: 2 left, 98 arrived\n");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_model() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = with_server(&directory).await;
    let model = directory.path().join("model.db");
    let model = model.to_str().expect("UTF-8");
    let printed = prints(&server, "read_model", &[model]).await;
    let (category, result) = printed.split_once(": ").expect("a category and what became of it");
    assert_eq!(result, "2000 messages now, 20 accounts hold 9000 from 2000 messages in all\n");
    let again = prints(&server, "read_model", &[model, category]).await;
    assert_eq!(again, format!("{category}: 0 messages now, 20 accounts hold 9000 from 2000 messages in all\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_model_postgres() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    let server = with_server(&directory).await;
    let printed = prints(&server, "read_model_postgres", &[&database]).await;
    let (category, result) = printed.split_once(": ").expect("a category and what became of it");
    assert_eq!(result, "100 messages now, 10 streams have 100 messages in all\n");
    let again = prints(&server, "read_model_postgres", &[&database, category]).await;
    assert_eq!(again, format!("{category}: 0 messages now, 10 streams have 100 messages in all\n"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn consumer_group() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = with_server(&directory).await;
    let printed = prints(&server, "consumer_group", &[]).await;
    assert!((0..4).any(|member| printed.contains(&format!("member {member} killed\n"))), "{printed}");
    let last = printed.lines().last().expect("a result");
    let repeated = last.strip_prefix("2000 messages handled, ").expect("the result");
    let (repeated, _) = repeated.split_once(" of them again after the kill").expect("the result");
    // What was written before the kill, at most.
    assert!(repeated.parse::<u32>().expect("a number") <= 1_000, "{printed}");
    server.stop().await;
}
