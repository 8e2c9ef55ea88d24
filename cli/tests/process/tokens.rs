//! A token that was revoked through one server, or in the database itself, ends on every other server.

use std::time::{Duration, Instant};

use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use serde_json::{Value, json};

use super::http::Http;
use super::server::*;

/// Tokens that are revoked one after the other through the other server.
const TOKENS: usize = 100;
/// Tokens that are revoked without a notification.
const UNNOTICED: usize = 3;
/// What a token opened has ended by then, whatever happens to notifications.
const AT_MOST: Duration = Duration::from_secs(5);
/// What a busy machine may take beyond that.
const SLACK: Duration = Duration::from_secs(1);

/// What a token has opened on a server.
struct Opened {
    id: String,
    subscription: Http,
    waiting: Http,
}

impl Opened {
    /// A new token, with a subscription and a read that waits.
    async fn on(server: &Server) -> Self {
        let mut http = server.connect().await;
        let made = call(&mut http, &json!(["token.create", { "rights": ["read"] }])).await;
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        let connect = async || Http::connect(&server.address, &text("token")).await.expect("the server listens");
        let (mut subscription, mut waiting) = (connect().await, connect().await);
        subscription.subscribe(0).await.expect("the server answers");
        let read = json!(["category.get", "nothing", { "waitMs": 30_000 }]);
        let token = text("token");
        waiting
            .send(eventodb_testing::http::call(Some(&token), &read.to_string()).as_bytes())
            .await
            .expect("it is sent");
        // The subscription is at the head, and the read waits meanwhile.
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(": caught-up") {
            seen.extend(subscription.chunk().await.expect("it stays open").expect("it does not end"));
        }
        Self { id: text("id"), subscription, waiting }
    }

    /// Waits until both have ended because their token has.
    async fn ended(mut self) {
        while self.subscription.chunk().await.expect("it ends cleanly").is_some() {}
        let (status, error) = self.waiting.answer().await.expect("it is answered");
        assert_eq!((status, &error["error"]["code"]), (403, &json!("AUTH_UNAUTHORIZED")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_ends_on_the_other_server() {
    let url = postgres::database().await;
    let [one, other] = [Server::on_database(&url, &[]).await, Server::on_database(&url, &[]).await];
    let mut http = one.connect().await;
    let mut times = Vec::with_capacity(TOKENS);
    for _ in 0..TOKENS {
        let opened = Opened::on(&other).await;
        let revoked = call(&mut http, &json!(["token.revoke", opened.id])).await;
        let answered = Instant::now();
        assert_eq!(revoked["id"], Value::from(&*opened.id));
        opened.ended().await;
        times.push(answered.elapsed());
    }
    report("from the revocation by one server to the end on the other", &mut times);
    for server in [one, other] {
        server.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_there_without_notifications_too() {
    let url = postgres::database().await;
    let server = Server::on_database(&url, &[]).await;
    let mut times = Vec::with_capacity(UNNOTICED);
    for _ in 0..UNNOTICED {
        let opened = Opened::on(&server).await;
        // As if the notification of another server was lost.
        let revoke = format!("UPDATE eventodb.tokens SET revoked_at = now() WHERE id = '{}'", opened.id);
        postgres::run(&url, &revoke).await;
        let committed = Instant::now();
        opened.ended().await;
        times.push(committed.elapsed());
    }
    report("from a revocation without a notification to the end", &mut times);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_makes_no_other_one() {
    let url = postgres::database().await;
    let server = Server::on_database(&url, &[]).await;
    let mut http = server.connect().await;
    let expires = "2100-01-01T00:00:00Z";
    let made = call(&mut http, &json!(["token.create", { "rights": ["admin"], "expiresAt": expires }])).await;
    let (id, token) = (made["id"].as_str().expect("an id"), made["token"].as_str().expect("a token"));
    let mut stolen = Http::connect(&server.address, token).await.expect("the server listens");
    call(&mut stolen, &json!(["token.list"])).await;
    // The server does not know it yet.
    postgres::run(&url, &format!("UPDATE eventodb.tokens SET revoked_at = now() WHERE id = '{id}'")).await;
    for attempt in
        [json!(["token.create", { "rights": ["read"] }]), json!(["token.rotate", null]), json!(["ns.create", "mine"])]
    {
        let (status, error) = stolen.call(&attempt).await.expect("the server answers");
        assert_eq!((status, &error["error"]["code"]), (403, &json!("AUTH_UNAUTHORIZED")), "{attempt}");
    }
    let tokens = call(&mut http, &json!(["token.list"])).await;
    assert_eq!(tokens.as_array().map(Vec::len), Some(1), "{tokens}");
    server.stop().await;
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let (middle, late, last) = (times[times.len() / 2], times[times.len() * 99 / 100], times[times.len() - 1]);
    tell(&format!("{what}: p50 {middle:?}, p99 {late:?}, longest {last:?}"));
    assert!(last < AT_MOST + SLACK, "{what}: {last:?}");
}
