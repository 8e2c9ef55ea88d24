//! What is left in a data directory of a replacement that never came to its end.

use eventodb_store::sqlite::Settings;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_a_crash_broke_off_leaves_no_files() {
    let (directory, mut model) = store_of(3).await;
    let has_files = || {
        let mut entries = std::fs::read_dir(directory.path()).expect("it is there");
        entries.any(|entry| entry.expect("readable").file_name().to_string_lossy().starts_with("2."))
    };
    let store = open(directory.path(), Settings::default()).await;
    let replacement = store.replace(NAME, None).await.expect("it is there");
    // As after a crash: nobody gives it up.
    std::mem::forget(replacement);
    store.close().await;
    assert!(has_files());

    let store = open(directory.path(), Settings::default()).await;
    model.check(&store).await;
    append_any(&log(&store, NAME).await, "a-1").await.expect("it takes writes");
    // They go in the background.
    while has_files() {
        tokio::task::yield_now().await;
    }
    store.close().await;
}
