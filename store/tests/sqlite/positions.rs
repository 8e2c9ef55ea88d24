//! A position that no log of this version has, as an import of an earlier one left it.

use eventodb_protocol::request::Read;
use eventodb_protocol::{Direction, Filter, Scope};
use eventodb_store::Error;
use eventodb_store::sqlite::Settings;
use eventodb_store::testing::logs::restamp;
use rusqlite::Connection;

use super::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_log_at_the_highest_number_is_read_and_not_written() {
    let (directory, _) = store_of(10).await;
    let file = Connection::open(directory.path().join("1.log.db")).expect("it is there");
    let highest = "INSERT INTO messages
                   SELECT 9223372036854775807, 'z-1', 9223372036854775807, 1, randomblob(16), type, correlation, time, metadata, data,
                          NULL
                   FROM messages WHERE global_position = 1;
                   INSERT INTO imports VALUES (9223372036854775807, 0)";
    file.execute_batch(highest).expect("it is ours");
    drop(file);
    restamp(&log_file(directory.path())).expect("a log");
    for settings in [lazy(), tiny(), Settings::default()] {
        let store = open(directory.path(), settings).await;
        let log = log(&store, NAME).await;
        for stream in ["a-0", "z-1", "new-1"] {
            let refused = append_any(&log, stream).await;
            assert!(matches!(refused, Err(Error::Full(None))), "{refused:?}");
        }
        let everything = || Filter::new(Scope::All);
        let read = |filter| Read::forward(filter, 0, 100);
        assert_eq!(messages(&log, read(everything())).await.len(), 11);
        let typed = Filter { types: vec!["None".into()], ..everything() };
        assert_eq!(messages(&log, read(typed.clone())).await.len(), 0);
        let backward = Read { direction: Direction::Backward, from: None, ..read(typed) };
        assert_eq!(messages(&log, backward).await.len(), 0);
        let of_stream = Read { by_stream_position: false, ..read(Filter::new(Scope::Stream("z-1".into()))) };
        assert!(messages(&log, of_stream).await.len() <= 1);
        tokio::time::timeout(PATIENCE, store.close()).await.expect("it ends");
    }
}
