//! Tokens, in both modes.

use eventodb_protocol::Token;

use crate::client::{call, head};
use crate::server::{Server, fresh};

const VERSION: &str = r#"["stream.version","a-1"]"#;

#[tokio::test]
async fn production_needs_a_token() {
    let server = Server::start_production().await;
    let (good, unknown) = (server.token.to_string(), fresh());
    let wrong = Token::generate("default").to_string();
    for (header, status, code) in [
        ("", 401, "AUTH_REQUIRED"),
        ("Authorization: Bearer\r\n", 401, "AUTH_REQUIRED"),
        ("Authorization: Bearer nonsense\r\n", 401, "AUTH_INVALID_TOKEN"),
        ("Authorization: Basic YTpi\r\n", 401, "AUTH_INVALID_TOKEN"),
        (&format!("Authorization: {good}\r\n"), 401, "AUTH_INVALID_TOKEN"),
        (&format!("Authorization: Bearer {}\r\n", good.to_uppercase()), 401, "AUTH_INVALID_TOKEN"),
        (&format!("Authorization: Bearer {unknown}\r\n"), 403, "AUTH_UNAUTHORIZED"),
        (&format!("Authorization: Bearer {wrong}\r\n"), 403, "AUTH_UNAUTHORIZED"),
    ] {
        for (verb, path) in [("POST", "/rpc"), ("GET", "/subscribe?all=true"), ("POST", "/import")] {
            let mut client = server.connect().await;
            let body = if path == "/rpc" { VERSION } else { "" };
            let length = format!("{header}Content-Length: {}\r\n", body.len());
            client.send(head(verb, path, None, &length) + body).await;
            let reply = client.reply().await;
            assert_eq!((reply.status, reply.code().as_str()), (status, code), "{path} {header}");
            assert_eq!(reply.header("www-authenticate").is_some(), status == 401);
            assert_eq!(reply.header("x-eventodb-token"), None);
        }
    }
    assert_eq!(server.rpc(&good, VERSION).await, "null");
    assert_eq!(
        server.call(&unknown, VERSION).await.text(),
        server.call(&wrong, VERSION).await.text(),
        "the same answer for both"
    );
    for free in [r#"["sys.version"]"#, r#"["sys.health"]"#] {
        assert_eq!(server.call("nonsense", free).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_in_the_query_wins() {
    let server = Server::start_production().await;
    let (good, bad) = (server.token.to_string(), fresh());
    for (query, header, status) in [
        (good.as_str(), Some(bad.as_str()), 200),
        (bad.as_str(), Some(good.as_str()), 403),
        ("", Some(good.as_str()), 200),
        (good.as_str(), None, 200),
    ] {
        let mut client = server.connect().await;
        let length = format!("Content-Length: {}\r\n", VERSION.len());
        client.send(head("POST", &format!("/rpc?token={query}"), header, &length) + VERSION).await;
        assert_eq!(client.reply().await.status, status);
    }
}

#[tokio::test]
async fn the_administrators_token_is_that_of_default() {
    let server = Server::start_production().await;
    let admin = server.token.as_str();
    let mut tokens = Vec::new();
    for name in ["one", "two"] {
        let token = Token::generate(name).to_string();
        server.rpc(admin, &format!(r#"["ns.create","{name}",{{"token":"{token}"}}]"#)).await;
        tokens.push(token);
    }
    let one = tokens[0].as_str();
    for refused in [
        r#"["ns.list"]"#,
        r#"["ns.create","three"]"#,
        r#"["ns.info","two"]"#,
        r#"["ns.delete","two"]"#,
        r#"["ns.info","nobody"]"#,
        r#"["ns.delete","nobody"]"#,
        r#"["ns.delete","default"]"#,
    ] {
        let reply = server.call(one, refused).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "AUTH_UNAUTHORIZED"), "{refused}");
    }
    for allowed in [r#"["ns.info","one"]"#, r#"["ns.streams"]"#, r#"["ns.categories"]"#, r#"["ns.delete","one"]"#] {
        server.rpc(one, allowed).await;
    }
    for allowed in [r#"["ns.list"]"#, r#"["ns.info","two"]"#, r#"["ns.delete","two"]"#] {
        server.rpc(admin, allowed).await;
    }
    assert_eq!(server.call(admin, r#"["ns.info","two"]"#).await.code(), "NAMESPACE_NOT_FOUND");
    assert_eq!(server.call(admin, r#"["ns.delete","default"]"#).await.code(), "INVALID_REQUEST");
}

#[tokio::test]
async fn test_mode_shows_a_token_to_a_client_without_one() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for (body, status) in [(VERSION, 200), (r#"["no.such"]"#, 404), ("[", 400), (r#"["ns.info","nobody"]"#, 404)] {
        let reply = client.call(None, body).await;
        assert_eq!(reply.status, status);
        let shown: Token = reply.header("x-eventodb-token").expect("the header").parse().expect("a token");
        assert_eq!(shown.namespace(), "default", "{body}");
        assert_ne!(shown.as_str(), server.token.as_str(), "{body}");
    }
    assert_eq!(client.call(Some(&fresh()), VERSION).await.header("x-eventodb-token"), None);
    assert_eq!(client.call(Some("nonsense"), VERSION).await.header("x-eventodb-token"), None);
}

#[tokio::test]
async fn test_mode_rejects_no_token() {
    let server = Server::start().await;
    let write = r#"["stream.write","a-1",{"type":"T","data":{}}]"#;
    server.connect().await.call(None, write).await;
    for default in ["nonsense", Token::generate("default").as_str()] {
        assert_eq!(server.rpc(default, VERSION).await, "0");
    }
    let (one, other) = (Token::generate("shop"), Token::generate("shop"));
    server.rpc(one.as_str(), write).await;
    assert_eq!(server.rpc(other.as_str(), VERSION).await, "0");
}

#[tokio::test]
async fn test_mode_creates_a_namespace_at_its_first_use() {
    let server = Server::start().await;
    let exists = async |name: &str| server.call(&fresh(), &format!(r#"["ns.info","{name}"]"#)).await.status == 200;
    let (read, subscribed, imported, listed) = (
        Token::generate("read"),
        Token::generate("subscribed"),
        Token::generate("imported"),
        Token::generate("listed"),
    );
    server.rpc(read.as_str(), r#"["stream.get","a-1"]"#).await;
    assert!(exists("read").await);
    crate::events::Events::subscribe(&server, subscribed.as_str(), "all=true").await;
    assert!(exists("subscribed").await);
    server.connect().await.request("POST", "/import", Some(imported.as_str())).await;
    assert!(exists("imported").await);
    server.rpc(listed.as_str(), r#"["ns.list"]"#).await;
    assert_eq!(server.call(&fresh(), r#"["ns.info","listed"]"#).await.code(), "NAMESPACE_NOT_FOUND");
    assert!(!exists("listed").await, "a call that uses no namespace does not create the one of its token");
}

#[tokio::test]
async fn many_first_uses_at_once_create_one_namespace() {
    let (server, token) = (Server::start().await, fresh());
    let calls = (0..16).map(|_| server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#));
    futures_util::future::join_all(calls).await;
    assert_eq!(server.rpc(&token, VERSION).await, "15");
}

#[tokio::test]
async fn a_token_does_not_bring_back_what_was_deleted() {
    let server = Server::start().await;
    let token = Token::generate("shop");
    server.rpc(token.as_str(), VERSION).await;
    server.rpc(token.as_str(), r#"["ns.delete","shop"]"#).await;
    let mut client = server.connect().await;
    client.send(call(Some(token.as_str()), VERSION)).await;
    assert_eq!(client.reply().await.code(), "AUTH_UNAUTHORIZED");
    assert_eq!(client.request("GET", "/subscribe?all=true", Some(token.as_str())).await.code(), "AUTH_UNAUTHORIZED");
    server.rpc(&fresh(), r#"["ns.create","shop"]"#).await;
    assert_eq!(server.rpc(token.as_str(), VERSION).await, "null");
}

#[tokio::test]
async fn a_token_of_a_namespace_with_an_invalid_name_is_refused() {
    let server = Server::start().await;
    let token = Token::generate(&"x".repeat(256));
    assert_eq!(server.call(token.as_str(), VERSION).await.code(), "INVALID_REQUEST");
}
