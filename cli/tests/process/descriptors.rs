//! A process that may open few files: namespaces take turns, and no call fails.

use eventodb_protocol::Token;
use serde_json::json;
use tokio::process::Command;

use super::http::Http;
use super::server::*;

/// Files that the server may open, sockets included.
const FILES: usize = 64;
const NAMESPACES: usize = 40;
const WRITES: usize = 3;
/// Namespaces that are used at once.
const AT_ONCE: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn forty_namespaces_are_used_with_sixty_four_files() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\""), BINARY]);
    command.args(Server::arguments(&directory.path().join("data")));
    let server = Server::launch(command).await;
    let mut administrator = server.connect().await;
    let mut tokens = Vec::new();
    for at in 0..NAMESPACES {
        let name = format!("n{at}");
        let token = Token::generate(&name).to_string();
        call(&mut administrator, &json!(["ns.create", name, { "token": token }])).await;
        tokens.push(token);
    }
    let users: Vec<_> = tokens
        .chunks(NAMESPACES / AT_ONCE)
        .map(|tokens| {
            let (tokens, address) = (tokens.to_vec(), server.address.clone());
            tokio::spawn(async move {
                for token in tokens {
                    use_namespace(&address, &token).await;
                }
            })
        })
        .collect();
    for user in users {
        user.await.expect("a user does not panic");
    }
    for token in &tokens {
        let mut http = Http::connect(&server.address, token).await.expect("the server listens");
        let found = call(&mut http, &json!(["category.get", "s"])).await;
        assert_eq!(found.as_array().map(Vec::len), Some(WRITES));
    }
    server.stop().await;
}

/// Writes and reads. An answer of 503 is retried; any other failure fails the test.
async fn use_namespace(address: &str, token: &str) {
    let mut http = Http::connect(address, token).await.expect("the server listens");
    for at in 0..WRITES {
        let written = call(&mut http, &json!(["stream.write", "s-1", { "type": "T", "data": {} }])).await;
        assert_eq!(integer(&written["position"]), i64::try_from(at).expect("it is small"));
        let read = call(&mut http, &json!(["stream.get", "s-1"])).await;
        assert_eq!(read.as_array().map(Vec::len), Some(at + 1));
    }
}
