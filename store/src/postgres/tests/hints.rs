//! What servers tell each other.

use super::fixture::{Fixture, new_namespace, settings};
use super::pair::Pair;
use crate::Settings;
use crate::conformance::support::{PATIENCE, everything, pokes, subscribe, write};
use crate::log::{Event, Start};
use crate::storage::{Backend as _, Hint};
use eventodb_testing::postgres;

#[tokio::test]
async fn a_server_hears_of_others_writes_and_not_of_its_own() {
    let first = Fixture::new().await;
    let second = first.second().await;
    let mut hints = second.backend.hints().expect("they are taken once");
    assert!(second.backend.hints().is_none());
    assert_eq!(hints.recv().await, Some(Hint::All), "from when it began to listen");
    second.write(&[("b-1", "B")]).await;
    first.write(&[("a-1", "A"), ("a-1", "A")]).await;
    // What the first server did before the second listened may come late.
    let mut heard = hints.recv().await;
    while heard == Some(Hint::Registry) {
        heard = hints.recv().await;
    }
    assert_eq!(heard, Some(Hint::Written(first.log, 3)));
    first.backend.create(&new_namespace("other")).await.expect("the name is free");
    assert_eq!(hints.recv().await, Some(Hint::Registry));
    first.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '' OR query LIKE 'LISTEN%'").await;
    assert_eq!(hints.recv().await, Some(Hint::All), "after the connection was made anew");
    first.write(&[("a-1", "A")]).await;
    assert_eq!(hints.recv().await, Some(Hint::Written(first.log, 4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poke_crosses_by_a_database_that_has_nothing_but_the_channel() {
    let (url, channel) = (postgres::database().await, postgres::database().await);
    let mut backend = settings(&url);
    backend.listen_url = Some(channel.parse().expect("a good URL"));
    // No poll comes to the rescue.
    let bounds = Settings { poll_interval: 10 * PATIENCE, ..Settings::default() };
    let pair = Pair::of(url.clone(), [backend.clone(), backend], bounds).await;
    let [first, second] = pair.logs().await;
    let mut subscription = subscribe(&second, everything(), Start::Global(1));
    while !matches!(subscription.next().await, Event::CaughtUp(_)) {}
    write(&first, "a-1", "A").await;
    let poked = async {
        loop {
            if let Event::Pokes(frames) = subscription.next().await {
                return pokes(&frames).len();
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, poked).await.expect("it is poked"), 1);
    // Nobody listens or notifies where the messages are.
    let there = postgres::connect(&url).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity
                    WHERE (query LIKE 'LISTEN%' OR query LIKE '%pg_notify%') AND datname = current_database()
                        AND pid <> pg_backend_pid()";
    assert_eq!(there.query_one(sessions, &[]).await.expect("good SQL").get::<_, i64>(0), 0);
    pair.close().await;
}
