//! What the store tells of itself while reads are answered and writes are not, or not as they should be.

use std::time::{Duration, Instant};

use eventodb_store::sqlite::Settings;
use rusqlite::Connection;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_last_time_ahead_of_the_clock_is_told_before_its_namespace_is_used() {
    let (directory, mut model) = store_of(3).await;
    let store = open(directory.path(), Settings::default()).await;
    log(&store, NAME).await;
    assert_eq!(store.degraded(), []);
    store.close().await;

    let file = Connection::open(directory.path().join("1.log.db")).expect("it is there");
    let in_a_century = "INSERT INTO imports (last_position, written_time) \
                        SELECT max(global_position), max(time) + 3155760000000000 FROM messages";
    file.execute_batch(&format!("DELETE FROM imports; {in_a_century}")).expect("it is ours");
    drop(file);

    let store = open(directory.path(), Settings::default()).await;
    let deadline = Instant::now() + PATIENCE;
    // Nobody has used the namespace yet.
    while codes(&store) != ["CLOCK_BEHIND"] {
        assert!(Instant::now() < deadline, "{:?} is told", codes(&store));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    model.check(&store).await;
    assert_eq!(codes(&store), ["CLOCK_BEHIND"]);
    store.close().await;
}
