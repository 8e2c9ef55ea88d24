//! What one client may have. Addresses of the loopback network make different clients.

use std::num::NonZeroU32;
use std::time::Duration;

use eventodb_protocol::reply::Quota;
use eventodb_server::{AtOnce, Config, Mode};
use eventodb_store::model::NamespaceUpdate;

use crate::client::{Client, Reply, call, head};
use crate::events::Events;
use crate::server::{Server, fresh, within};

const VERSION: &str = r#"["stream.version","a-1"]"#;

/// The reply to a call from `127.0.0.LAST`.
async fn call_from(last: u8, server: &Server, token: Option<&str>, body: &str) -> Reply {
    Client::connect_from(last, server.address).await.call(token, body).await
}

/// The replies to a call that is sent this often on one connection, by their statuses and codes.
async fn repeated(client: &mut Client, times: usize, request: &str) -> Vec<(u16, String)> {
    let mut replies = Vec::new();
    for _ in 0..times {
        client.send(request).await;
        let reply = client.reply().await;
        if reply.status == 429 {
            assert!((1..=3).contains(&reply.retry_after()), "{reply:?}");
        }
        replies.push((reply.status, if reply.status == 200 { String::new() } else { reply.code() }));
    }
    replies
}

fn count(replies: &[(u16, String)], status: u16) -> usize {
    replies.iter().filter(|(of_reply, _)| *of_reply == status).count()
}

/// How often something is tried that a slow machine may spoil.
const TRIES: usize = 10;

/// The first refusal of a request that is sent again and again.
async fn refusal(client: &mut Client, request: &str) -> Reply {
    for _ in 0..TRIES {
        client.send(request).await;
        let reply = client.reply().await;
        if reply.status == 429 {
            return reply;
        }
    }
    panic!("it is never refused")
}

/// One a second: on a slow machine some come free while a test runs, but not most.
fn few(rate: &mut Option<NonZeroU32>) {
    *rate = NonZeroU32::new(1);
}

fn trust_127_0_0_9(config: &mut Config) {
    config.trusted_proxies = ["127.0.0.9".parse().expect("an address")].into();
}

/// The head of a call with one more header field.
fn call_with(field: &str, token: &str) -> String {
    head("POST", "/rpc", Some(token), &format!("{field}\r\nContent-Length: {}\r\n", VERSION.len())) + VERSION
}

#[tokio::test]
async fn an_address_has_as_many_connections_as_it_may() {
    let server = Server::start_with(|config| {
        config.bounds.connections_per_address = 2;
        trust_127_0_0_9(config);
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = server.connect().await;
        assert_eq!(client.request("GET", "/health", None).await.status, 200);
        held.push(client);
    }
    assert!(server.connect().await.rest().await.is_empty(), "it is closed without an answer");
    let mut other = Client::connect_from(2, server.address).await;
    assert_eq!(other.request("GET", "/health", None).await.status, 200);
    for _ in 0..5 {
        let mut shared = Client::connect_from(9, server.address).await;
        assert_eq!(shared.request("GET", "/health", None).await.status, 200);
        held.push(shared);
    }
    for client in &mut held[..2] {
        assert_eq!(client.request("GET", "/health", None).await.status, 200, "they stay");
    }
}

#[tokio::test]
async fn requests_of_an_address_have_a_rate() {
    let server = Server::start_with(|config| few(&mut config.changeable.rates.requests_per_address)).await;
    let token = fresh();
    let mut client = server.connect().await;
    let replies = repeated(&mut client, 10, &call(Some(&token), VERSION)).await;
    assert!(count(&replies, 429) >= 5, "{replies:?}");
    assert_eq!(replies.last(), Some(&(429, "RATE_LIMITED".to_owned())));
    assert_eq!(call_from(2, &server, Some(&token), VERSION).await.status, 200, "another client");
    // A probe is always answered, and a body that was announced does not spoil the connection.
    let reply = client.request("GET", "/health/ready", None).await;
    assert_eq!(reply.status, 200);
    for path in ["/subscribe?all=true", "/nowhere"] {
        assert_eq!(client.request("GET", path, Some(&token)).await.status, 429, "{path}");
    }
}

#[tokio::test]
async fn requests_with_a_token_have_a_rate() {
    let server = Server::start_with(|config| few(&mut config.changeable.rates.requests_per_token)).await;
    let (token, other) = (fresh(), fresh());
    let replies = repeated(&mut server.connect().await, 10, &call(Some(&token), VERSION)).await;
    assert!(count(&replies, 429) >= 5, "{replies:?}");
    let mut client = Client::connect_from(2, server.address).await;
    let elsewhere = refusal(&mut client, &call(Some(&token), VERSION)).await;
    assert_eq!(elsewhere.code(), "RATE_LIMITED", "wherever it is shown");
    assert!(elsewhere.text().contains("--max-requests-per-token"));
    assert_eq!(server.call(&other, VERSION).await.status, 200);
}

#[tokio::test]
async fn a_refused_request_leaves_its_body_unread_and_its_connection_usable() {
    let server = Server::start_with(|config| few(&mut config.changeable.rates.requests_per_token)).await;
    let token = fresh();
    // The body never comes, and the answer does. If a second passes before the last request, that one is admitted.
    for _ in 0..TRIES {
        repeated(&mut server.connect().await, 2, &call(Some(&token), VERSION)).await;
        let mut client = server.connect().await;
        client.send(head("POST", "/rpc", Some(&token), "Content-Length: 1000000\r\n")).await;
        if let Ok(reply) = tokio::time::timeout(Duration::from_secs(2), client.reply()).await {
            assert_eq!(reply.status, 429);
            return;
        }
    }
    panic!("a request that is refused is answered only after its body");
}

#[tokio::test]
async fn wrong_tokens_have_a_rate_and_right_ones_have_none() {
    let server = Server::start_with(|config| {
        config.mode = Mode::Production;
        few(&mut config.changeable.rates.wrong_tokens);
    })
    .await;
    let right = server.token.to_string();
    let mut client = server.connect().await;
    for (wrong, status) in [(fresh(), 403), ("nonsense".to_owned(), 401)] {
        let replies = repeated(&mut client, 10, &call(Some(&wrong), VERSION)).await;
        assert!(count(&replies, 429) >= 5 && count(&replies, status) + count(&replies, 429) == 10, "{replies:?}");
        let replies = repeated(&mut client, 50, &call(Some(&right), VERSION)).await;
        assert_eq!(count(&replies, 200), 50, "from the same address");
    }
    let refused = call_from(2, &server, Some(&fresh()), VERSION).await;
    assert_eq!(refused.status, 403, "another client");
    // No token is not a wrong one.
    let replies = repeated(&mut client, 10, &call(None, VERSION)).await;
    assert_eq!(count(&replies, 401), 10);
    for path in ["/subscribe?all=true"] {
        let refused = refusal(&mut client, &head("GET", path, Some(&fresh()), "")).await;
        assert_eq!(refused.code(), "RATE_LIMITED", "{path}");
    }
}

#[tokio::test]
async fn by_default_twenty_wrong_tokens_a_second_are_refused_as_such() {
    let server = Server::start_production().await;
    let replies = repeated(&mut server.connect().await, 300, &call(Some(&fresh()), VERSION)).await;
    assert!(
        count(&replies, 403) >= 20 && count(&replies, 429) > 0,
        "{} and {}",
        count(&replies, 403),
        count(&replies, 429)
    );
    let replies = repeated(&mut server.connect().await, 300, &call(Some(server.token.as_str()), VERSION)).await;
    assert_eq!(count(&replies, 200), 300);
}

#[tokio::test]
async fn a_forged_header_changes_no_limit() {
    let server = Server::start_with(|config| {
        few(&mut config.changeable.rates.requests_per_address);
        trust_127_0_0_9(config);
    })
    .await;
    let token = fresh();
    for name in ["X-Forwarded-For: 192.0.2", "Forwarded: for=192.0.2"] {
        let (mut client, mut refused) = (server.connect().await, 0);
        for last in 1..10 {
            client.send(call_with(&format!("{name}.{last}"), &token)).await;
            refused += usize::from(client.reply().await.status == 429);
        }
        assert!(refused >= 5, "{name}: {refused}");
    }
    // The proxy's word counts, and each of its clients has a count of its own.
    let mut proxy = Client::connect_from(9, server.address).await;
    for last in 1..10 {
        proxy.send(call_with(&format!("X-Forwarded-For: 10.0.0.1, 192.0.2.{last}"), &token)).await;
        assert_eq!(proxy.reply().await.status, 200, "{last}");
    }
    // What a client wrote before the proxy's word does not help it.
    let mut refused = 0;
    for last in 1..10 {
        proxy.send(call_with(&format!("X-Forwarded-For: 10.0.0.{last}, 198.51.100.1"), &token)).await;
        refused += usize::from(proxy.reply().await.status == 429);
    }
    assert!(refused >= 5, "{refused}");
}

/// The codes and messages of what is refused for being too much at once.
async fn refused(server: &Server, token: &str, path: &str) -> String {
    let mut client = server.connect().await;
    client.send(head("GET", path, Some(token), "")).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "OVERLOADED"), "{}", reply.text());
    assert!(reply.header("retry-after").is_some());
    reply.text()
}

#[tokio::test]
async fn subscriptions_have_a_bound_and_an_ended_one_makes_room() {
    let few = AtOnce { per_namespace: 2, per_token: 1 };
    let server = Server::start_with(|config| config.changeable.subscriptions = few).await;
    let [first, second, third] = [(); 3].map(|()| eventodb_protocol::Token::generate("crowded").to_string());
    let held = Events::subscribe(&server, &first, "all=true").await;
    assert!(refused(&server, &first, "/subscribe?all=true").await.contains("--max-subscriptions-per-token"));
    let _other = Events::subscribe(&server, &second, "category=a").await;
    assert!(refused(&server, &third, "/subscribe?stream=a-1").await.contains("--max-subscriptions-per-namespace"));
    Events::subscribe(&server, &fresh(), "all=true").await;
    drop(held);
    within("the place of the one that ended", async {
        loop {
            let mut client = server.connect().await;
            client.send(head("GET", "/subscribe?all=true", Some(&third), "")).await;
            if client.head().await.status == 200 {
                break;
            }
        }
    })
    .await;
}

/// Sends the same waiting call with each of the two tokens. One of the calls is refused, whichever comes later; returns
/// the other, which waits.
async fn one_waits(server: &Server, tokens: [&str; 2], flag: &str) -> Client {
    let mut clients = [server.connect().await, server.connect().await];
    for (client, token) in clients.iter_mut().zip(tokens) {
        client.send(call(Some(token), r#"["category.get","a",{"waitMs":20000}]"#)).await;
    }
    let [first, second] = &mut clients;
    let (reply, waits) = tokio::select! {
        reply = first.reply() => (reply, 1),
        reply = second.reply() => (reply, 0),
    };
    assert_eq!((reply.status, reply.code().as_str()), (503, "OVERLOADED"));
    assert!(reply.text().contains(flag), "{}", reply.text());
    let [first, second] = clients;
    if waits == 0 { first } else { second }
}

#[tokio::test]
async fn waiting_calls_have_a_bound() {
    let few = AtOnce { per_namespace: 2, per_token: 1 };
    let server = Server::start_with(|config| config.changeable.waits = few).await;
    let [first, second, third] = [(); 3].map(|()| eventodb_protocol::Token::generate("crowded").to_string());
    let waiting = [
        one_waits(&server, [&first, &first], "--max-waits-per-token").await,
        one_waits(&server, [&second, &third], "--max-waits-per-namespace").await,
    ];
    assert_eq!(server.rpc(&first, r#"["category.get","a"]"#).await, "[]", "a call that does not wait has no place");
    assert_eq!(server.rpc(&fresh(), r#"["category.get","a",{"waitMs":1}]"#).await, "[]", "another namespace");
    server.rpc(&third, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    for mut client in waiting {
        assert_eq!(client.reply().await.status, 200);
    }
    server.rpc(&third, r#"["category.get","b",{"waitMs":1}]"#).await;
}

#[tokio::test]
async fn a_member_without_a_place_to_wait_keeps_its_lease_and_its_checkpoint() {
    let one = AtOnce { per_namespace: 1, per_token: 1 };
    let server = Server::start_with(|config| config.changeable.waits = one).await;
    let token = fresh();
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    server.rpc(&token, r#"["group.create","g",{"partitions":1}]"#).await;
    let joined: serde_json::Value =
        serde_json::from_str(&server.rpc(&token, r#"["group.join","g"]"#).await).expect("JSON");
    let (member, epoch) = (joined["member"].as_str().expect("an id"), &joined["assigned"][0]["epoch"]);
    let mut waiting = server.connect().await;
    waiting.send(call(Some(&token), r#"["category.get","a",{"position":2,"waitMs":20000}]"#)).await;
    let heartbeat = async |options: String| {
        let mut client = server.connect().await;
        client.send(call(Some(&token), &format!(r#"["group.heartbeat","g","{member}",{options}]"#))).await;
        client.reply().await
    };
    within("all places to be taken", async { while heartbeat(r#"{"waitMs":1}"#.to_owned()).await.status == 200 {} })
        .await;
    let reply = heartbeat(format!(r#"{{"waitMs":1,"checkpoints":{{"0":{{"epoch":{epoch},"position":1}}}}}}"#)).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "OVERLOADED"));
    let status: serde_json::Value =
        serde_json::from_str(&server.rpc(&token, r#"["group.status","g"]"#).await).expect("JSON");
    assert_eq!(status["partitions"][0]["checkpoint"], 1, "what it says counts, and renews its lease");
    drop(waiting);
}

#[tokio::test]
async fn imports_have_a_bound() {
    let server = Server::start_with(|config| config.bounds.imports = 1).await;
    let import =
        |token: &str, length: usize| head("POST", "/import", Some(token), &format!("Content-Length: {length}\r\n"));
    let mut running = server.connect().await;
    running.send(import(&fresh(), 10)).await;
    assert_eq!(running.head().await.status, 200);
    let mut second = server.connect().await;
    second.send(import(&fresh(), 0)).await;
    let reply = second.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "OVERLOADED"));
    assert!(reply.text().contains("--max-imports"), "{}", reply.text());
    drop(running);
    within("the place of the import that broke off", async {
        loop {
            second = server.connect().await;
            second.send(import(&fresh(), 0)).await;
            if second.head().await.status == 200 {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_holds_no_more_than_its_quota() {
    let server = Server::start().await;
    let token = fresh();
    let namespace = token.parse::<eventodb_protocol::Token>().expect("a token").namespace().to_owned();
    server.rpc(&token, r#"["stream.write","a-1",{"type":"T","data":{}}]"#).await;
    let quota = Some(Quota { messages: Some(2), bytes: None });
    let update = NamespaceUpdate { quota, ..NamespaceUpdate::default() };
    server.store.update(&*namespace, &update).await.expect("it lives");
    let write = r#"["stream.write","a-1",{"type":"T","data":{}}]"#;
    server.rpc(&token, write).await;
    for call in [write, r#"["stream.append","a-1",[{"type":"T","data":{}}]]"#] {
        let reply = server.call(&token, call).await;
        assert_eq!((reply.status, reply.code().as_str()), (507, "QUOTA_EXCEEDED"));
        assert_eq!(reply.header("retry-after"), None, "it would be refused again");
    }
    let record = r#"{"id":"11111111-2222-4333-8444-555555555555","stream":"b-1","type":"T","pos":0,"gpos":9,"data":{},"meta":null,"time":"2026-01-02T03:04:05Z"}"#;
    let mut client = server.connect().await;
    let length = format!("Content-Length: {}\r\n", record.len());
    client.send(head("POST", "/import", Some(&token), &length) + record).await;
    let events = Events::of(client).await.rest().await;
    assert!(
        events[0].contains(r#""error":"IMPORT_FAILED","message":"the namespace would exceed its quota"#),
        "{events:?}"
    );
    assert_eq!(server.rpc(&token, r#"["stream.version","a-1"]"#).await, "1", "reads go on");
    server.rpc(&fresh(), write).await;
}
