//! The error table, as far as a client can provoke its codes.

use crate::client::{Client, call, head};
use crate::server::{Server, fresh};

const MESSAGE: &str = r#"{"type":"T","data":{}}"#;

#[tokio::test]
async fn bad_calls_are_refused_in_words() {
    let (server, token) = (Server::start().await, fresh());
    for (body, status, code, words) in [
        ("", 400, "INVALID_REQUEST", "JSON"),
        ("[", 400, "INVALID_REQUEST", "JSON"),
        ("{}", 400, "INVALID_REQUEST", "array"),
        ("[]", 400, "INVALID_REQUEST", "array"),
        ("[7]", 400, "INVALID_REQUEST", "method"),
        (r#"["stream.writ"]"#, 404, "METHOD_NOT_FOUND", "method"),
        (r#"["stream.get"]"#, 400, "INVALID_REQUEST", "stream"),
        (r#"["stream.get",7]"#, 400, "INVALID_REQUEST", "stream"),
        (r#"["stream.version",""]"#, 400, "INVALID_REQUEST", "stream"),
        (r#"["stream.get","a",{"batchSize":10001}]"#, 400, "INVALID_REQUEST", "batchSize"),
        (r#"["stream.get","a",{"position":1.0}]"#, 400, "INVALID_REQUEST", "position"),
        (r#"["stream.write","a\u0000b",{"type":"T","data":{}}]"#, 400, "INVALID_REQUEST", "stream"),
        (r#"["category.get","a",{"consumerGroup":{"member":1,"size":1}}]"#, 400, "INVALID_REQUEST", "member"),
        (r#"["ns.streams",{"limit":0}]"#, 400, "INVALID_REQUEST", "limit"),
        (r#"["ns.info","nobody"]"#, 404, "NAMESPACE_NOT_FOUND", "namespace"),
        (r#"["ns.delete","nobody"]"#, 404, "NAMESPACE_NOT_FOUND", "namespace"),
        (r#"["ns.delete","default"]"#, 400, "INVALID_REQUEST", "default"),
        (r#"["ns.create","default"]"#, 409, "NAMESPACE_EXISTS", "namespace"),
    ] {
        let reply = server.call(&token, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (status, code), "{body}: {}", reply.text());
        let message = reply.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(words), "{body}: {message}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert!(!reply.text().contains("details"), "{body}");
    }
}

#[tokio::test]
async fn a_token_is_judged_before_the_arguments_and_a_method_by_its_name_however_it_is_written() {
    let server = Server::start_production().await;
    let good = server.token.to_string();
    for (body, wrong, right) in [
        (r#"["stream.get","#, 403, 400),
        (r#"["stream.get",7]"#, 403, 400),
        (" \n[\t\"stream.get\" , \"a-1\" ] ", 403, 200),
        (r#"["stream\u002eget","a-1"]"#, 403, 200),
        // Nobody needs a token for these.
        (r#"["stream.ge","#, 400, 400),
        (r#"["stream.ge"]"#, 404, 404),
        (r#"["sys.version""#, 400, 400),
        (r#"["sys.version"]"#, 200, 200),
    ] {
        let statuses = (server.call(&fresh(), body).await.status, server.call(&good, body).await.status);
        assert_eq!(statuses, (wrong, right), "{body}");
    }
}

#[tokio::test]
async fn conflicts_have_details() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, &format!(r#"["stream.append","a-1",[{MESSAGE},{MESSAGE}]]"#)).await;
    let reply = server.call(&token, &format!(r#"["stream.write","a-1",{MESSAGE},{{"expectedVersion":5}}]"#)).await;
    assert_eq!(reply.status, 409);
    assert_eq!(
        reply.text(),
        r#"{"error":{"code":"STREAM_VERSION_CONFLICT","message":"Expected version 5, stream is at version 1","details":{"expected":5,"actual":1}}}"#
    );
    let reply =
        server.call(&token, &format!(r#"["stream.append","a-9",[{MESSAGE}],{{"expectedVersion":"exists"}}]"#)).await;
    assert!(reply.text().ends_with(r#""details":{"expected":"exists","actual":-1}}}"#), "{}", reply.text());
    let all = format!(
        r#"["streams.append",[{{"stream":"a-1","messages":[{MESSAGE}],"expectedVersion":0}}],{{"checks":[{{"stream":"a-2","expectedVersion":3}}]}}]"#
    );
    let reply = server.call(&token, &all).await;
    assert!(
        reply.text().ends_with(
            r#""details":{"conflicts":[{"stream":"a-1","expected":0,"actual":1},{"check":0,"stream":"a-2","expected":3,"actual":-1}]}}}"#
        ),
        "{}",
        reply.text()
    );
}

#[tokio::test]
async fn a_known_id_with_something_else_is_a_conflict() {
    let (server, token) = (Server::start().await, fresh());
    let id = uuid::Uuid::new_v4();
    server.rpc(&token, &format!(r#"["stream.write","a-1",{MESSAGE},{{"id":"{id}"}}]"#)).await;
    let reply = server.call(&token, &format!(r#"["stream.write","a-2",{MESSAGE},{{"id":"{id}"}}]"#)).await;
    assert_eq!((reply.status, reply.code().as_str()), (409, "MESSAGE_ID_CONFLICT"));
}

#[tokio::test]
async fn invalid_utf8_is_told() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(head("POST", "/rpc", None, "Content-Length: 4\r\n")).await;
    client.send(b"[\"\xff]").await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "INVALID_REQUEST"));
    assert!(reply.text().contains("UTF-8"));
    let reply = client.request("POST", "/rpc?token=%ff", None).await;
    assert_eq!(reply.code(), "INVALID_REQUEST");
}

#[tokio::test]
async fn deep_json_is_refused_and_others_are_served() {
    let (server, token) = (Server::start().await, fresh());
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!(r#"["stream.write","a-1",{{"type":"T","data":{{"a":{deep}}}}}]"#);
    assert_eq!(server.call(&token, &body).await.code(), "INVALID_REQUEST");
    assert_eq!(server.call(&token, &deep).await.code(), "INVALID_REQUEST");
    server.rpc(&token, r#"["sys.version"]"#).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_before_it_is_read() {
    let server = Server::start_with(|config| config.limits.body_bytes = 1000).await;
    let body = " ".repeat(1001);
    let mut client = server.connect().await;
    client.send(head("POST", "/rpc", None, "Content-Length: 1001\r\n")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));
    assert_eq!(reply.header("connection"), Some("close"));
    client.send(&body).await;
    assert!(client.rest().await.is_empty());
}

/// The client must be able to send its whole body and then read the reply. If the server closed the connection before,
/// the system would send a reset, and the client would lose the reply.
#[tokio::test]
async fn a_refused_body_can_be_sent_to_its_end() {
    let server = Server::start_with(|config| config.limits.body_bytes = 1000).await;
    let body = " ".repeat(8_000_000);
    for framing in ["Content-Length: 8000000\r\n".to_owned(), "Transfer-Encoding: chunked\r\n".to_owned()] {
        let mut client = server.connect().await;
        client.send(head("POST", "/rpc", None, &framing)).await;
        if framing.starts_with('C') {
            client.send(&body).await;
        } else {
            client.send(format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())).await;
        }
        assert_eq!(client.reply().await.code(), "PAYLOAD_TOO_LARGE", "{framing}");
        assert!(client.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_message_over_the_limit_is_too_large() {
    let (server, token) = (Server::start_with(|config| config.limits.message_bytes = 100).await, fresh());
    let fits = format!(r#"["stream.write","a-1",{{"type":"T","data":{{"x":"{}"}}}}]"#, "x".repeat(92));
    server.rpc(&token, &fits).await;
    let reply = server.call(&token, &fits.replacen('x', "xx", 1)).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "PAYLOAD_TOO_LARGE"));
    // The server read the whole body, so that the connection takes further calls.
    let mut client = server.connect().await;
    assert_eq!(client.call(Some(&token), &fits.replacen('x', "xx", 1)).await.status, 413);
    assert_eq!(client.call(Some(&token), r#"["stream.version","a-1"]"#).await.text(), "0");
}

#[tokio::test]
async fn a_deleted_namespace_serves_nothing_more() {
    let (server, token) = (Server::start().await, fresh());
    let namespace = token.parse::<eventodb_protocol::Token>().expect("a token").namespace().to_owned();
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    let mut waiting: Client = server.connect().await;
    waiting.send(call(Some(&token), r#"["stream.get","a-1",{"position":1,"waitMs":20000}]"#)).await;
    server.rpc(&token, &format!(r#"["ns.delete","{namespace}"]"#)).await;
    let code = waiting.reply().await.code();
    assert!(["BACKEND_UNAVAILABLE", "AUTH_UNAUTHORIZED"].contains(&code.as_str()), "{code}");
    assert_eq!(server.call(&token, r#"["stream.get","a-1"]"#).await.code(), "AUTH_UNAUTHORIZED");
}
