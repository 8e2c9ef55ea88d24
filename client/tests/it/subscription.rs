//! Subscriptions: reconnecting, the silence limit, and reading only when the caller asks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_client::{Error, Event, Poke, RetryPolicy, Subscribe};

use crate::fake::{Answer, Fake};

fn poke(position: i64) -> String {
    format!(
        "id: {position}\nevent: poke\ndata: {{\"stream\":\"a-1\",\"position\":{},\"globalPosition\":{position}}}\n\n",
        position - 1
    )
}

fn quick() -> RetryPolicy {
    RetryPolicy { first: Duration::from_millis(1), ..RetryPolicy::forever() }
}

/// The next poke. Events before it are skipped.
async fn next_poke(subscription: &mut eventodb_client::Subscription) -> Poke {
    loop {
        if let Event::Poke(poke) = subscription.next().await.expect("an event") {
            return poke;
        }
    }
}

#[tokio::test]
async fn goes_on_behind_the_last_event_after_every_cut() {
    const LAST: i64 = 10;
    let all: String = (1..=LAST).map(poke).collect();
    let calls = AtomicUsize::new(0);
    // Each connection is cut a few bytes later than the one before, mostly within a frame.
    let fake = Fake::start(move |request| {
        let from = request.last_event_id.as_ref().map_or(1, |id| id.parse::<i64>().expect("a position") + 1);
        let rest: String = (from..=LAST).map(poke).collect();
        let cut = 37 + 41 * (calls.fetch_add(1, Ordering::Relaxed) % 5);
        Answer::Events { text: format!("retry: 1000\n\n: ready\n\n{}", &rest[..cut.min(rest.len())]), then_cut: true }
    })
    .await;
    assert!(all.len() > 300);
    let mut subscription = fake.client().subscribe(Subscribe::category("a").retry(quick()));
    for position in 1..=LAST {
        assert_eq!(next_poke(&mut subscription).await.global_position, position);
    }
    let requests = fake.requests.lock();
    assert!(requests.len() > 2);
    assert_eq!(requests[0].target, "/subscribe?category=a&position=0");
    assert_eq!(requests[0].last_event_id, None);
}

#[tokio::test]
async fn a_silent_connection_is_given_up() {
    let calls = AtomicUsize::new(0);
    let fake = Fake::start(move |_| {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        let text = if first { ": ready\nid: 6\n\n".to_owned() } else { poke(7) };
        Answer::Events { text, then_cut: false }
    })
    .await;
    let options = Subscribe::all().silence_limit(Duration::from_millis(50)).retry(quick());
    let mut subscription = fake.client().subscribe(options);
    assert_eq!(next_poke(&mut subscription).await.global_position, 7);
    assert_eq!(fake.requests.lock()[1].last_event_id.as_deref(), Some("6"));
}

#[tokio::test]
async fn comments_tell_how_far_it_is() {
    let text = format!("{}: caught-up 3\nid: 3\n\n: heartbeat 9\nid: 9\n\n", poke(3));
    let fake = Fake::start(move |_| Answer::Events { text: text.clone(), then_cut: true }).await;
    let mut subscription = fake.client().subscribe(Subscribe::all());
    assert!(matches!(subscription.next().await, Ok(Event::Connected)));
    assert!(matches!(subscription.next().await, Ok(Event::Poke(_))));
    assert!(matches!(subscription.next().await, Ok(Event::CaughtUp(3))));
    assert!(matches!(subscription.next().await, Ok(Event::Heartbeat(9))));
    assert_eq!(subscription.last_event_id(), Some(9));
    assert!(matches!(subscription.next().await, Ok(Event::Disconnected(_))));
}

#[tokio::test]
async fn a_refusal_ends_it() {
    let fake = Fake::start(|_| Answer::error(403, "AUTH_UNAUTHORIZED")).await;
    let mut subscription = fake.client().subscribe(Subscribe::all());
    assert!(matches!(subscription.next().await, Err(Error::Forbidden { .. })));
    assert!(matches!(subscription.next().await, Err(Error::Closed)));
}

#[tokio::test]
async fn cancelling_loses_nothing() {
    let text: String = (1..=200).map(poke).collect();
    let fake = Fake::start(move |_| Answer::Events { text: text.clone(), then_cut: false }).await;
    let mut subscription = fake.client().subscribe(Subscribe::all());
    let mut seen = Vec::new();
    while seen.len() < 200 {
        tokio::select! {
            biased;
            event = subscription.next() => {
                if let Event::Poke(poke) = event.expect("an event") {
                    seen.push(poke.global_position);
                }
            }
            () = std::future::ready(()) => tokio::task::yield_now().await,
        }
    }
    assert_eq!(seen, (1..=200).collect::<Vec<_>>());
}
