//! Pages: their heads, and what happens to those that are too large for one piece.

use crate::client::{End, call};
use crate::server::{Server, fresh};

#[tokio::test]
async fn the_head_tells_how_far_a_page_is_complete() {
    let (server, token) = (Server::start().await, fresh());
    server.fill(&token, "a-1", 5, "{}").await;
    server.fill(&token, "b-1", 2, "{}").await;
    let mut client = server.connect().await;
    for (body, head) in [
        (r#"["category.get","a"]"#, Some("7")),
        (r#"["category.get","a",{"batchSize":2}]"#, Some("2")),
        (r#"["category.get","a",{"until":3}]"#, Some("3")),
        (r#"["category.get","c"]"#, Some("7")),
        (r#"["stream.get","a-1"]"#, Some("7")),
        (r#"["stream.get","a-1",{"batchSize":3}]"#, Some("3")),
        (r#"["category.get","a",{"direction":"backward"}]"#, None),
        (r#"["stream.last","a-1"]"#, None),
    ] {
        let reply = client.call(Some(&token), body).await;
        assert_eq!(reply.header("x-eventodb-head"), head, "{body}");
    }
}

#[tokio::test]
async fn a_small_page_has_a_length_and_a_large_one_is_streamed() {
    let (server, token) = (Server::start().await, fresh());
    let data = format!(r#"{{"x":"{}"}}"#, "x".repeat(2000));
    server.fill(&token, "a-1", 4000, &data).await;
    let mut client = server.connect().await;
    let reply = client.call(Some(&token), r#"["stream.get","a-1",{"batchSize":10}]"#).await;
    assert!(reply.header("content-length").is_some());
    let reply = client.call(Some(&token), r#"["stream.get","a-1",{"batchSize":-1}]"#).await;
    assert_eq!(reply.header("transfer-encoding"), Some("chunked"));
    assert_eq!(reply.header("x-eventodb-head"), Some("4000"));
    let messages = reply.json();
    let messages = messages.as_array().expect("messages");
    assert_eq!(messages.len(), 4000);
    assert!(messages.iter().enumerate().all(|(position, message)| message[2] == position));
    // The connection goes on.
    assert_eq!(client.call(Some(&token), r#"["stream.version","a-1"]"#).await.text(), "3999");
}

#[tokio::test]
async fn a_page_that_cannot_be_finished_is_cut_off() {
    let server = Server::start().await;
    let token = eventodb_protocol::Token::generate("shop");
    let data = format!(r#"{{"x":"{}"}}"#, "x".repeat(5000));
    server.fill(token.as_str(), "a-1", 9000, &data).await;
    let mut client = server.connect().await;
    client.send(call(Some(token.as_str()), r#"["stream.get","a-1",{"batchSize":-1}]"#)).await;
    assert_eq!(client.head().await.status, 200);
    // 45 MB do not fit into the sockets: the reply waits, and its namespace goes.
    server.rpc(token.as_str(), r#"["ns.delete","shop"]"#).await;
    let (body, end) = client.chunked().await;
    assert_eq!(end, End::CutOff);
    assert!(serde_json::from_slice::<serde_json::Value>(&body).is_err());
}
