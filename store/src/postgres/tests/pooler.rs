//! Behind PgBouncer in transaction mode.

use super::fixture::{Fixture, positions, select};
use crate::storage::Backend as _;
use eventodb_testing::pooler::Pooler;
use eventodb_testing::postgres;

/// Fewer connections than the test has sessions.
const CONNECTIONS: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler() {
    let direct = postgres::database().await;
    let pooler = Pooler::start(&direct, CONNECTIONS).await;
    let fixture = Fixture::at(pooler.url(&direct), |settings| {
        settings.prepare = false;
        settings.listen_url = Some(direct.parse().expect("a good URL"));
    })
    .await;
    let mut hints = fixture.backend.hints().expect("they are taken once");
    assert_eq!(hints.recv().await, Some(crate::storage::Hint::All));
    let second = Fixture::at(pooler.url(&direct), |settings| settings.prepare = false).await;
    // More sessions than the pooler has connections, so that they change hands all the time.
    let all = select(eventodb_protocol::Scope::All);
    for round in 1..=10 {
        second.write(&[("a-1", "A"), ("b-1", "B")]).await;
        let reads = (0..8).map(|_| fixture.storage.read(&all));
        for slice in futures_util::future::join_all(reads).await {
            assert_eq!(positions(&slice.expect("it answers")), (1..=2 * round).collect::<Vec<i64>>());
        }
    }
    assert!(matches!(hints.recv().await, Some(crate::storage::Hint::Written(log, _)) if log == fixture.log));
    let stale = fixture.batch(&[("a-1", "A")]).await;
    fixture.write(&[("a-1", "A")]).await;
    assert!(fixture.settle(&stale).await.is_ok());
    assert_eq!(fixture.storage.counts().await.expect("it answers").messages, 21);
    fixture.backend.delete(fixture.log).await.expect("it answers").expect("it lives");
    fixture.long_ago().await;
    fixture.backend.purge().await.expect("it answers");
}
