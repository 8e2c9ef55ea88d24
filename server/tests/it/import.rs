//! Imports: records in, progress out.

use std::time::Duration;

use eventodb_protocol::Token;
use serde_json::{Value, json};

use crate::client::{Client, head};
use crate::events::Events;
use crate::server::{Server, fresh, within};

fn record(stream: &str, pos: i64, gpos: i64) -> String {
    let id = uuid::Uuid::new_v4();
    format!(
        r#"{{"id":"{id}","stream":"{stream}","type":"T","pos":{pos},"gpos":{gpos},"data":{{"n":1.10}},"meta":null,"time":"2026-01-02T03:04:05.123456789Z"}}"#
    )
}

/// Sends a body in one piece; all events.
async fn import(server: &Server, token: &str, query: &str, body: &str) -> Vec<String> {
    let mut client = server.connect().await;
    let length = format!("Content-Length: {}\r\n", body.len());
    client.send(head("POST", &format!("/import{query}"), Some(token), &length) + body).await;
    let mut events = Events::of(client).await;
    assert_eq!(events.head.header("content-type"), Some("text/event-stream"));
    events.rest().await
}

fn lines(records: impl IntoIterator<Item = String>) -> String {
    records.into_iter().map(|record| record + "\n").collect()
}

fn done(count: usize) -> String {
    format!(r#"data: {{"done":true,"imported":{count},"elapsed":""#)
}

#[tokio::test]
async fn records_keep_their_places_and_times() {
    let (server, token) = (Server::start().await, fresh());
    let body = lines([record("a-1", 3, 7), String::new(), record("b-1", 0, 9), record("a-1", 5, 20)]);
    let events = import(&server, &token, "", body.trim_end()).await;
    assert_eq!(events[0], r#"data: {"imported":3,"gpos":20}"#);
    assert!(events[1].starts_with(&done(3)) && events[1].ends_with("s\"}"), "{events:?}");
    let read = server.rpc(&token, r#"["stream.get","a-1"]"#).await;
    assert!(read.contains(r#","T",3,7,{"n":1.10},null,"2026-01-02T03:04:05.123456Z"]"#), "{read}");
    let write = r#"["stream.write","a-1",{"type":"T","data":{}}]"#;
    assert_eq!(server.rpc(&token, write).await, r#"{"position":6,"globalPosition":21}"#);
}

#[tokio::test]
async fn a_replacement_must_say_what_becomes_of_groups() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    server.rpc(&token, r#"["group.create","g",{"start":1}]"#).await;
    for (query, named) in [
        ("?force=true", "groups must be keep or drop"),
        ("?force=true&groups=both", "groups must be keep or drop"),
        ("?groups=keep", "groups needs force=true"),
    ] {
        let mut client = server.connect().await;
        client.send(head("POST", &format!("/import{query}"), Some(&token), "Content-Length: 0\r\n")).await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "INVALID_REQUEST"), "{query}");
        assert!(reply.text().contains(named), "{}", reply.text());
    }
    let body = record("a-1", 0, 5);
    assert!(import(&server, &token, "?force=true&groups=keep", &body).await[1].starts_with(&done(1)));
    let status = server.rpc(&token, r#"["group.status","g"]"#).await;
    assert!(status.contains(r#""checkpoint":1,"#) && status.contains(r#""head":5,"#), "{status}");
    assert!(import(&server, &token, "?force=true&groups=drop", &body).await[1].starts_with(&done(1)));
    assert_eq!(server.rpc(&token, r#"["group.list"]"#).await, "[]");
    assert!(import(&server, &token, "?force=true", &body).await[1].starts_with(&done(1)), "there are none any more");
}

#[tokio::test]
async fn batches_tell_of_their_progress() {
    let (server, token) = (Server::start().await, fresh());
    let body = lines((0..2500).map(|n| record("a-1", n, 2 * n + 1)));
    let events = import(&server, &token, "", &body).await;
    assert_eq!(
        events[..3],
        [
            r#"data: {"imported":1000,"gpos":1999}"#,
            r#"data: {"imported":2000,"gpos":3999}"#,
            r#"data: {"imported":2500,"gpos":4999}"#
        ]
    );
    assert!(events[3].starts_with(&done(2500)));
    let events = import(&server, &token, "", "").await;
    assert!(events[0].starts_with(&done(0)), "{events:?}");
}

#[tokio::test]
async fn a_bad_line_is_told_and_earlier_batches_are_kept() {
    let (server, token) = (Server::start().await, fresh());
    let mut records: Vec<String> = (0..1500).map(|n| record("a-1", n, n + 1)).collect();
    records[1200] = records[1200].replace("\"pos\"", "\"poss\"");
    let events = import(&server, &token, "", &lines(records)).await;
    assert_eq!(events.len(), 2, "{events:?}");
    assert_eq!(events[1], r#"data: {"error":"INVALID_JSON","message":"pos is missing","line":1201}"#);
    assert_eq!(server.rpc(&token, r#"["stream.version","a-1"]"#).await, "999");
}

#[tokio::test]
async fn what_is_in_the_way_is_told() {
    let (server, token) = (Server::start().await, fresh());
    let first = record("a-1", 4, 10);
    let twice = first.clone();
    import(&server, &token, "", &first).await;
    let id = |record: &str| record[7..43].to_owned();
    let same_id = record("c-1", 0, 12);
    let same_id = same_id.replace(&id(&same_id), &id(&first));
    for (body, code, line) in [
        (twice, "POSITION_EXISTS", 1),
        (lines([record("b-1", 0, 11), record("a-1", 4, 12)]), "POSITION_EXISTS", 2),
        (lines([record("b-1", 0, 11), same_id]), "POSITION_EXISTS", 2),
        (lines([record("b-1", 0, 11), record("b-1", 1, 11)]), "POSITION_EXISTS", 2),
        (lines([record("b-1", 0, 12), record("b-1", 1, 11)]), "INVALID_JSON", 2),
        (lines([String::new(), record("b-1", 0, 0)]), "INVALID_JSON", 2),
        ("{".to_owned(), "INVALID_JSON", 1),
    ] {
        let events = import(&server, &token, "", &body).await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert!(events[0].starts_with(&format!(r#"data: {{"error":"{code}","message":""#)), "{body}: {events:?}");
        assert!(events[0].ends_with(&format!("\"line\":{line}}}")), "{body}: {events:?}");
    }
    assert_eq!(server.rpc(&token, r#"["category.get",""]"#).await.matches("\"T\"").count(), 1);
}

#[tokio::test]
async fn force_replaces_what_is_there() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, r#"["stream.write","a-1",{"type":"Old","data":{}}]"#).await;
    let events = import(&server, &token, "?force=true", &record("a-1", 0, 1)).await;
    assert!(events[1].starts_with(&done(1)), "{events:?}");
    let read = server.rpc(&token, r#"["category.get",""]"#).await;
    assert!(!read.contains("Old") && read.contains("\"T\""), "{read}");
    let mut client = server.connect().await;
    assert_eq!(client.request("POST", "/import?force=perhaps", Some(&token)).await.code(), "INVALID_REQUEST");
}

/// Begins a forced import of some records; the body's end is still to come.
async fn begin_forced(server: &Server, token: &str, records: &str) -> Client {
    let mut client = server.connect().await;
    client.send(head("POST", "/import?force=true", Some(token), "Transfer-Encoding: chunked\r\n")).await;
    client.send(format!("{:x}\r\n{records}\r\n", records.len())).await;
    client
}

const WRITE: &str = r#"["stream.write","a-1",{"type":"Old","data":{}}]"#;
const VERSION: &str = r#"["stream.version","a-1"]"#;

#[tokio::test]
async fn force_destroys_nothing_before_all_is_in() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, WRITE).await;
    let records: Vec<String> = (0..1500).map(|n| record("a-1", n, n + 1)).collect();
    let mut bad = records.clone();
    bad[1200] = bad[1200].replace("\"pos\"", "\"poss\"");
    let events = import(&server, &token, "?force=true", &lines(bad)).await;
    assert!(events.last().is_some_and(|event| event.contains("INVALID_JSON")), "{events:?}");
    assert_eq!(server.rpc(&token, VERSION).await, "0", "a bad record");
    for empty in ["", "\n\n"] {
        let events = import(&server, &token, "?force=true", empty).await;
        assert!(events.last().is_some_and(|event| event.contains("IMPORT_FAILED")), "{events:?}");
        assert_eq!(server.rpc(&token, VERSION).await, "0", "no record");
    }

    let mut client = begin_forced(&server, &token, &lines(records.clone())).await;
    let mut events = Events::of(client).await;
    assert_eq!(events.next().await.as_deref(), Some(r#"data: {"imported":1000,"gpos":1000}"#));
    assert_eq!(server.rpc(&token, VERSION).await, "0", "while it runs");
    drop(events);
    within("the end of an import whose connection was cut", async {
        while server.connect().await.call(Some(&token), WRITE).await.status == 503 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(server.rpc(&token, VERSION).await, "1", "a cut connection");

    client = begin_forced(&server, &token, &lines(records)).await;
    client.send("0\r\n\r\n").await;
    let events = Events::of(client).await.rest().await;
    assert!(events.last().is_some_and(|event| event.starts_with(&done(1500))), "{events:?}");
    assert_eq!(server.rpc(&token, VERSION).await, "1499");
}

#[tokio::test]
async fn force_heeds_what_is_set_while_it_runs() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, WRITE).await;
    let name = token.parse::<Token>().expect("a token").namespace().to_owned();
    let update = async |set: &Value| {
        server.rpc(server.token.as_str(), &json!(["ns.update", name, set]).to_string()).await;
    };
    let batch = lines((0..1000).map(|n| record("a-1", n, n + 1)));
    for (set, told) in [
        (json!({"protected": true}), "the namespace is protected"),
        (json!({"quota": {"messages": 999}}), "the namespace would exceed its quota of messages"),
    ] {
        let mut events = Events::of(begin_forced(&server, &token, &batch).await).await;
        events.up_to(r#"data: {"imported":1000,"#).await;
        update(&set).await;
        events.send("0\r\n\r\n").await;
        let events = events.rest().await;
        let last = events.last().expect("it ends with an event");
        let expected = format!(r#"data: {{"error":"IMPORT_FAILED","message":"{told}"#);
        assert!(last.starts_with(&expected) && last.ends_with(r#","line":1000}"#), "{events:?}");
        assert_eq!(server.rpc(&token, VERSION).await, "0", "{set}");
        update(&json!({"protected": false})).await;
    }
    update(&json!({"quota": {"messages": 1000}})).await;
    let events = import(&server, &token, "?force=true", &batch).await;
    assert!(events.last().is_some_and(|event| event.starts_with(&done(1000))), "{events:?}");
    assert_eq!(server.call(&token, WRITE).await.code(), "QUOTA_EXCEEDED");
}

#[tokio::test]
async fn writes_and_imports_are_refused_during_force() {
    let (server, token) = (Server::start().await, fresh());
    server.rpc(&token, WRITE).await;
    let batch = lines((0..1000).map(|n| record("a-1", n, n + 1)));
    let mut events = Events::of(begin_forced(&server, &token, &batch).await).await;
    assert_eq!(events.next().await.as_deref(), Some(r#"data: {"imported":1000,"gpos":1000}"#));
    let refused = server.connect().await.call(Some(&token), WRITE).await;
    assert_eq!((refused.status, refused.code().as_str()), (503, "BACKEND_UNAVAILABLE"));
    assert!(refused.text().contains("nothing was written"), "{}", refused.text());
    for path in ["/import", "/import?force=true"] {
        let reply = server.connect().await.request("POST", path, Some(&token)).await;
        assert_eq!((reply.status, reply.code().as_str()), (503, "BACKEND_UNAVAILABLE"));
        assert!((1..=3).contains(&reply.retry_after()), "{reply:?}");
    }
    assert_eq!(server.rpc(&token, VERSION).await, "0");
}

/// The progress of a batch is told while the rest of the body is still to come.
#[tokio::test]
async fn the_body_is_taken_in_as_it_comes() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    client.send(head("POST", "/import", Some(&token), "Transfer-Encoding: chunked\r\n")).await;
    let batch = lines((0..1000).map(|n| record("a-1", n, n + 1)));
    client.send(format!("{:x}\r\n{batch}\r\n", batch.len())).await;
    let mut events = Events::of(client).await;
    assert_eq!(events.next().await.as_deref(), Some(r#"data: {"imported":1000,"gpos":1000}"#));
    assert_eq!(server.rpc(&token, r#"["stream.version","a-1"]"#).await, "999");
}

#[tokio::test]
async fn progress_that_is_not_read_holds_up_nothing() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    let body = lines((0..3000).map(|n| record("a-1", n, n + 1)));
    let length = format!("Content-Length: {}\r\n", body.len());
    client.send(head("POST", "/import", Some(&token), &length) + &body).await;
    within("the import", async {
        while server.rpc(&token, r#"["stream.version","a-1"]"#).await != "2999" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let events = Events::of(client).await.rest().await;
    assert!(events.last().is_some_and(|event| event.starts_with(&done(3000))));
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up() {
    let server = Server::start_with(|config| config.timeouts.body_gap = Duration::from_millis(50)).await;
    let mut client: Client = server.connect().await;
    client.send(head("POST", "/import", Some(&fresh()), "Content-Length: 10\r\n")).await;
    let events = Events::of(client).await.rest().await;
    assert!(events[0].starts_with(r#"data: {"error":"IMPORT_FAILED""#), "{events:?}");
}

#[tokio::test]
async fn who_has_sent_all_may_close_that_side() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    let body = lines((0..3000).map(|n| record("a-1", n, n + 1)));
    let length = format!("Content-Length: {}\r\n", body.len());
    client.send(head("POST", "/import", Some(&token), &length) + &body).await;
    tokio::io::AsyncWriteExt::shutdown(client.stream()).await.expect("one side closes");
    let events = Events::of(client).await.rest().await;
    assert!(events.last().is_some_and(|event| event.starts_with(&done(3000))), "{events:?}");
}

/// The default pause between two pieces of a body is longer than this test waits.
#[tokio::test]
async fn a_body_that_breaks_off_is_noticed_at_once() {
    let (server, token) = (Server::start().await, fresh());
    let mut client = server.connect().await;
    let body = lines((0..1000).map(|n| record("a-1", n, n + 1)));
    client.send(head("POST", "/import", Some(&token), "Content-Length: 10000000\r\n") + &body).await;
    tokio::io::AsyncWriteExt::shutdown(client.stream()).await.expect("one side closes");
    let events = Events::of(client).await.rest().await;
    assert!(events.last().is_some_and(|event| event.contains("IMPORT_FAILED")), "{events:?}");
    assert_eq!(server.rpc(&token, r#"["stream.version","a-1"]"#).await, "999");
}
