//! What servers tell each other.

use super::fixture::{Fixture, new_namespace};
use crate::storage::{Backend as _, Hint};

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
