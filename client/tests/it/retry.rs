//! Which calls are retried.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_client::{CreateNamespace, Error, Expected, NewMessage, RetryPolicy, StreamQuery};
use serde_json::json;
use tokio::time::Instant;

use crate::fake::{Answer, Fake};

/// A fake server that answers like this the first time, and successfully afterwards.
async fn fails_once(first: impl Fn() -> Answer + Send + Sync + 'static, then: &'static str) -> Fake {
    let calls = AtomicUsize::new(0);
    Fake::start(move |_| if calls.fetch_add(1, Ordering::Relaxed) == 0 { first() } else { Answer::ok(then) }).await
}

#[tokio::test]
async fn reads_and_writes_are_tried_again() {
    for (status, code) in [(503, "OVERLOADED"), (503, "BACKEND_UNAVAILABLE"), (504, "TIMEOUT"), (429, "RATE_LIMITED")] {
        let fake = fails_once(move || Answer::error(status, code), "[]").await;
        let page = fake.client().get("a-1", &StreamQuery::new()).await.expect("read in the end");
        assert!(page.messages.is_empty(), "{code}");
        let fake = fails_once(move || Answer::error(status, code), r#"{"position":0,"globalPosition":1}"#).await;
        let message = NewMessage::new("T", json!({}));
        fake.client().write("a-1", &message, Expected::Any).await.expect("written in the end");
        let bodies = fake.bodies();
        assert_eq!(bodies.len(), 2, "{code}");
        assert_eq!(bodies[0], bodies[1], "{code}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_at_once() {
    let fake = Fake::start(|_| Answer::error(400, "INVALID_REQUEST")).await;
    let error = fake.client().get("a-1", &StreamQuery::new()).await.expect_err("refused");
    assert!(matches!(error, Error::InvalidRequest { .. }));
    assert_eq!(fake.bodies().len(), 1);
}

#[tokio::test]
async fn a_missing_token_a_missing_right_and_too_many_requests_are_told_apart() {
    let told = async |status, code| {
        let fake = Fake::start(move |_| Answer::error(status, code).with_header("retry-after: 1")).await;
        let client = fake.client().with_retry_policy(RetryPolicy::none());
        let error = client.get("a-1", &StreamQuery::new()).await.expect_err("refused");
        assert!(error.to_string().ends_with("as the test wants"), "{error}");
        error
    };
    for code in ["AUTH_REQUIRED", "AUTH_INVALID_TOKEN", "UNKNOWN_TO_THIS_CLIENT"] {
        assert!(matches!(told(401, code).await, Error::Unauthenticated { .. }), "{code}");
    }
    for code in ["AUTH_UNAUTHORIZED", "UNKNOWN_TO_THIS_CLIENT"] {
        assert!(matches!(told(403, code).await, Error::Forbidden { .. }), "{code}");
    }
    let error = told(429, "RATE_LIMITED").await;
    assert!(matches!(error, Error::RateLimited { retry_after: Some(_), .. }) && error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn creating_a_namespace_is_repeated_only_when_it_was_certainly_not_done() {
    let created = r#"{"namespace":"n","token":"t","createdAt":"2026-01-01T00:00:00Z"}"#;
    let fake = fails_once(|| Answer::error(503, "OVERLOADED"), created).await;
    fake.client().create_namespace("n", &CreateNamespace::default()).await.expect("created in the end");
    let fake = fails_once(|| Answer::Cut(b"HTTP/1.1 200".to_vec()), created).await;
    let error = fake.client().create_namespace("n", &CreateNamespace::default()).await.expect_err("unknown outcome");
    assert!(!error.is_certainly_not_done());
    assert_eq!(fake.bodies().len(), 1);
}

#[tokio::test]
async fn retry_after_is_the_least_wait() {
    let fake = fails_once(|| Answer::error(503, "OVERLOADED").with_header("retry-after: 1"), "[]").await;
    let asked = Instant::now();
    fake.client().get("a-1", &StreamQuery::new()).await.expect("read in the end");
    assert!(asked.elapsed() >= Duration::from_secs(1), "a lower bound that the server set");
}

#[tokio::test]
async fn a_client_that_tries_for_ever_does_not_give_up_for_what_a_server_asks() {
    let fake = Fake::start(|_| Answer::error(503, "OVERLOADED").with_header("retry-after: 18446744073709551615")).await;
    let client = fake.client().with_retry_policy(RetryPolicy::forever());
    let outcome = tokio::time::timeout(Duration::from_millis(300), client.server_version()).await;
    assert!(outcome.is_err(), "it waits: {outcome:?}");
}

#[tokio::test]
async fn without_retries_the_first_failure_is_told() {
    let fake = Fake::start(|_| Answer::error(503, "OVERLOADED").with_header("retry-after: 7")).await;
    let client = fake.client().with_retry_policy(RetryPolicy::none());
    let error = client.server_version().await.expect_err("overloaded");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_certainly_not_done());
}

#[tokio::test]
async fn connections_are_used_again() {
    let fake = Fake::start(|_| Answer::ok("3")).await;
    let client = fake.client();
    for _ in 0..20 {
        assert_eq!(client.stream_version("a-1").await.expect("answered"), Some(3));
    }
    assert_eq!(fake.connections(), 1);
}

#[tokio::test]
async fn the_head_is_found_on_servers_that_do_not_tell_it() {
    for head in [0i64, 1, 2, 3, 7, 8, 1000, 1_000_003] {
        let fake = Fake::start(move |request| {
            let call: serde_json::Value = serde_json::from_str(&request.body).expect("a call");
            let from = call[2]["globalPosition"].as_i64().expect("a position").max(1);
            // The log has gaps: only every third position and the head are taken.
            let found = (from..=from.saturating_add(3)).find(|p| *p == head || (*p < head && p % 3 == 0));
            Answer::ok(found.map_or("[]".to_owned(), |position| {
                format!(r#"[["00000000-0000-0000-0000-000000000001","a-1","T",0,{position},{{}},null,"2026-01-01T00:00:00Z"]]"#)
            }))
        })
        .await;
        assert_eq!(fake.client().head().await.expect("found"), head);
    }
}

#[tokio::test]
async fn the_search_for_the_head_ends_whatever_the_server_answers() {
    for position in [1, i64::MAX] {
        let row = format!(
            r#"[["00000000-0000-0000-0000-000000000001","a-1","T",0,{position},{{}},null,"2026-01-01T00:00:00Z"]]"#
        );
        let fake = Fake::start(move |_| Answer::ok(row.clone())).await;
        let error = fake.client().head().await.expect_err("no such log");
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
    }
}
