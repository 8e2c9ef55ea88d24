//! What the store tells of itself while reads are answered and writes are not, or not as they should be.

use eventodb_store::backend::sqlite::Settings;
use rusqlite::Connection;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_last_time_ahead_of_the_clock_is_told() {
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
    model.check(&store).await;
    let codes: Vec<_> = store.degraded().into_iter().map(|degraded| degraded.code).collect();
    assert_eq!(codes, ["CLOCK_BEHIND"]);
    store.close().await;
}
