//! Each method, and the exact text of its result.

use eventodb_server::METHODS;
use serde_json::{Value, json};

use crate::server::{Server, fresh};

/// The result with what differs from run to run taken out of messages: their ids and times.
fn without_ids_and_times(text: &str) -> Value {
    let mut messages: Value = serde_json::from_str(text).expect("JSON");
    for message in messages.as_array_mut().expect("messages") {
        let fields = message.as_array_mut().expect("a message");
        assert_eq!(fields[0].as_str().map(str::len), Some(36));
        fields.remove(0);
        assert!(fields.pop().is_some_and(|time| time.as_str().is_some_and(|time| time.ends_with('Z'))));
    }
    messages
}

#[tokio::test]
async fn messages_are_written_and_read() {
    let (server, token) = (Server::start().await, fresh());
    let write = r#"["stream.write","account-1",{"type":"Opened","data":{"n":1.10,"s":"\u0041"}}]"#;
    assert_eq!(server.rpc(&token, write).await, r#"{"position":0,"globalPosition":1}"#);
    let write = r#"["stream.write", "account-1", {"type": "Moved", "data": {"a": 1}, "metadata": {}}, {"id": "6F9619FF-8B86-D011-B42D-00C04FC964FF"}]"#;
    assert_eq!(server.rpc(&token, write).await, r#"{"position":1,"globalPosition":2}"#);
    assert_eq!(server.rpc(&token, write).await, r#"{"position":1,"globalPosition":2}"#, "repeated");

    let read = server.rpc(&token, r#"["stream.get","account-1"]"#).await;
    assert!(read.contains(r#",{"n":1.10,"s":"\u0041"},null,""#), "{read}");
    assert!(read.contains(r#"["6f9619ff-8b86-d011-b42d-00c04fc964ff","Moved",1,2,{"a":1},{},""#), "{read}");
    let read = server.rpc(&token, r#"["category.get","account",{"position":2}]"#).await;
    assert_eq!(without_ids_and_times(&read), json!([["account-1", "Moved", 1, 2, {"a": 1}, {}]]));
    assert_eq!(server.rpc(&token, r#"["stream.get","account-2"]"#).await, "[]");

    let last = server.rpc(&token, r#"["stream.last","account-1",{"type":"Opened"}]"#).await;
    assert_eq!(without_ids_and_times(&format!("[{last}]"))[0][0], "Opened");
    assert_eq!(server.rpc(&token, r#"["stream.last","account-2"]"#).await, "null");
    assert_eq!(server.rpc(&token, r#"["stream.version","account-1"]"#).await, "1");
    assert_eq!(server.rpc(&token, r#"["stream.version","account-2"]"#).await, "null");
}

#[tokio::test]
async fn appends_are_atomic() {
    let (server, token) = (Server::start().await, fresh());
    let append =
        r#"["stream.append","a-1",[{"type":"T","data":{}},{"type":"T","data":{}}],{"expectedVersion":"noStream"}]"#;
    assert_eq!(
        server.rpc(&token, append).await,
        r#"{"firstPosition":0,"lastPosition":1,"firstGlobalPosition":1,"lastGlobalPosition":2}"#
    );
    let append = r#"["streams.append",[{"stream":"a-1","messages":[{"type":"T","data":{}}]},{"stream":"b-1","messages":[{"type":"T","data":{}}]}],{"checks":[{"stream":"c-1","expectedVersion":-1}]}]"#;
    assert_eq!(
        server.rpc(&token, append).await,
        concat!(
            r#"[{"firstPosition":2,"lastPosition":2,"firstGlobalPosition":3,"lastGlobalPosition":3},"#,
            r#"{"firstPosition":0,"lastPosition":0,"firstGlobalPosition":4,"lastGlobalPosition":4}]"#
        )
    );
}

#[tokio::test]
async fn namespaces_are_managed() {
    let server = Server::start_production().await;
    let admin = server.token.as_str();
    let created: Value =
        serde_json::from_str(&server.rpc(admin, r#"["ns.create","shop",{"description":"the shop"}]"#).await)
            .expect("JSON");
    let token = created["token"].as_str().expect("a token");
    assert_eq!(created["namespace"], "shop");
    server.rpc(token, r#"["stream.write","b-1",{"type":"T","data":{}}]"#).await;
    server.rpc(token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;

    let listed: Value = serde_json::from_str(&server.rpc(admin, r#"["ns.list"]"#).await).expect("JSON");
    assert_eq!(listed[1]["namespace"], "shop");
    assert_eq!(listed[1]["messageCount"], 2);
    let info: Value = serde_json::from_str(&server.rpc(token, r#"["ns.info","shop"]"#).await).expect("JSON");
    assert_eq!((&info["streamCount"], &info["description"]), (&json!(2), &json!("the shop")));
    let streams: Value = serde_json::from_str(&server.rpc(token, r#"["ns.streams"]"#).await).expect("JSON");
    assert_eq!((&streams[0]["stream"], &streams[1]["version"]), (&json!("a-1"), &json!(0)));
    let categories = server.rpc(token, r#"["ns.categories"]"#).await;
    assert_eq!(
        categories,
        r#"[{"category":"a","streamCount":1,"messageCount":1},{"category":"b","streamCount":1,"messageCount":1}]"#
    );
    let deleted: Value = serde_json::from_str(&server.rpc(admin, r#"["ns.delete","shop"]"#).await).expect("JSON");
    assert_eq!(deleted["messagesDeleted"], 2);
    assert_eq!(server.call(token, r#"["ns.streams"]"#).await.code(), "AUTH_UNAUTHORIZED");
}

#[tokio::test]
async fn the_server_tells_of_itself() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    assert_eq!(client.call(None, r#"["sys.version"]"#).await.text(), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    let health = client.call(None, r#"["sys.health"]"#).await;
    assert_eq!(health.text(), r#"{"status":"ok","backend":"sqlite","connections":1}"#);
}

#[tokio::test]
async fn every_method_of_the_table_answers() {
    let server = Server::start().await;
    for method in METHODS {
        let reply = server.call(&fresh(), &format!("[\"{method}\"]")).await;
        assert!(reply.status == 200 || reply.code() == "INVALID_REQUEST", "{method}: {}", reply.text());
    }
}

#[tokio::test]
async fn a_read_waits_for_a_first_message() {
    let (server, token) = (Server::start().await, fresh());
    let mut waiting = server.connect().await;
    // The namespace is there before the read begins, so that the read is what waits.
    server.rpc(&token, r#"["stream.version","a-1"]"#).await;
    waiting.send(crate::client::call(Some(&token), r#"["category.get","a",{"waitMs":20000}]"#)).await;
    server.rpc(&token, r#"["stream.write","b-1",{"type":"T","data":{}}]"#).await;
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    let reply = waiting.reply().await;
    assert_eq!(without_ids_and_times(&reply.text()), json!([["a-1", "T", 0, 2, {}, null]]));
}
