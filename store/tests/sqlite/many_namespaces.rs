//! More namespaces than may be open at once.

use std::time::{Duration, Instant};

use eventodb_store::sqlite::Settings;

use super::support::*;

const NAMESPACES: usize = 300;

/// Files of this process below a directory.
fn open_files(directory: &std::path::Path) -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("Linux tells");
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets.filter(|target| target.starts_with(directory)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_files_are_bounded() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let settings = Settings { open_namespaces: 8, ..Settings::default() };
    // A log and its write-ahead log and shared memory by writer, indexer and two readers, and the
    // same for the index; a few more namespaces are open while calls work with them.
    let most = 16 * (8 + settings.writer_threads + settings.readers) + 8;
    let store = open(directory.path(), settings.clone()).await;
    let mut models = Vec::new();
    let mut peak = 0;
    for at in 0..NAMESPACES {
        let name = format!("n{at}");
        create(&store, &name).await;
        let mut model = Model::default();
        model.write(&log(&store, &name).await, 3).await;
        models.push(model);
        peak = peak.max(open_files(directory.path()));
    }
    for (at, model) in models.iter_mut().enumerate() {
        let name = format!("n{at}");
        match at % 10 {
            0 => model.check_named(&store, &name).await,
            _ => model.write(&log(&store, &name).await, 1).await,
        }
        peak = peak.max(open_files(directory.path()));
    }
    assert!(peak <= most, "{peak} files were open, of at most {most}");
    store.close().await;
    drop(store);
    let deadline = Instant::now() + PATIENCE;
    while open_files(directory.path()) > 0 {
        assert!(Instant::now() < deadline, "files stay open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let store = open(directory.path(), settings).await;
    let counts = store.list().await.expect("the storage answers");
    assert_eq!(counts.len(), NAMESPACES);
    let held: u64 = counts.iter().map(|namespace| namespace.message_count).sum();
    assert_eq!(held, models.iter().map(|model| model.0.len() as u64).sum::<u64>());
    for (at, model) in models.iter_mut().enumerate().step_by(29) {
        model.check_named(&store, &format!("n{at}")).await;
    }
    store.close().await;
}
