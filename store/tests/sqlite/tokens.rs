//! What a token costs that opens nothing.

use eventodb_protocol::Token;
use eventodb_store::sqlite;
use rusqlite::Connection;

use super::support::*;

/// A description that cannot be read stands for one that takes long to read.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_namespace_a_wrong_token_reads_the_hash_alone() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let store = open(directory.path(), sqlite::Settings::default()).await;
    create(&store, "described").await;
    let registry = Connection::open(directory.path().join("registry.db")).expect("it is there");
    let unreadable = "UPDATE namespaces SET description = CAST(x'ff' AS TEXT) WHERE name = 'described'";
    assert_eq!(registry.execute(unreadable, []).expect("it is ours"), 1);
    for namespace in ["described", "unknown"] {
        let opened = store.authorize(&Token::generate(namespace)).await.expect("nothing else is read");
        assert!(opened.is_none(), "{namespace}");
    }
    store.close().await;
}
