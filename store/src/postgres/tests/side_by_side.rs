//! Servers of two versions at work on one log, from before its migration on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use eventodb_protocol::message::Expected;
use eventodb_protocol::{Token, group};
use eventodb_schema::POSTGRES_LOG;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use super::fixture::{open_store, settings};
use super::migrations::{NAME, first_version};
use crate::conformance::support::{all, message, write_expecting};
use crate::log::Log;
use eventodb_testing::postgres;

/// The schema of the log in the data of the first version.
const SCHEMA: &str = "eventodb_2";
/// Number of messages that each writer gets acknowledged before the migration, and after it.
const WRITES: usize = 100;

/// A writer as servers of the first version are: it appends by a statement on the tables.
struct FirstVersion {
    session: Client,
    append: Statement,
}

impl FirstVersion {
    async fn new(url: &str) -> Self {
        let session = postgres::connect(url).await;
        let synchronous = include_str!("../sql/synchronous.sql").trim_end();
        let text = include_str!("first/append.sql").replace("{synchronous}", synchronous);
        let text = text.replace("{log}", SCHEMA).replace("{number}", "2");
        let types = [
            [Type::INT8, Type::INT8, Type::UUID, Type::INT8, Type::INT8, Type::INT8_ARRAY, Type::TEXT_ARRAY],
            [
                Type::INT8_ARRAY,
                Type::BOOL_ARRAY,
                Type::TEXT_ARRAY,
                Type::INT8_ARRAY,
                Type::TEXT_ARRAY,
                Type::TEXT_ARRAY,
                Type::UUID_ARRAY,
            ],
        ];
        let rest = [Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::TIMESTAMPTZ_ARRAY, Type::UUID, Type::BOOL, Type::BOOL];
        let append = session.prepare_typed(&text, &[&types.concat()[..], &rest].concat()).await.expect("good SQL");
        Self { session, append }
    }

    /// Appends a message to the head; `None` if another writer was first.
    async fn append(&self, stream: &str) -> Option<Uuid> {
        let head = format!("SELECT seq, last_position, batch_id FROM {SCHEMA}.batches ORDER BY seq DESC LIMIT 1");
        let head = self.session.query_one(&head, &[]).await.expect("good SQL");
        let (seq, position, head_id): (i64, i64, Uuid) = (head.get(0), head.get(1), head.get(2));
        let (id, none) = (Uuid::new_v4(), None::<Vec<std::time::SystemTime>>);
        let values: [&(dyn ToSql + Sync); 20] = [
            &seq,
            &position,
            &Uuid::new_v4(),
            &(position + 1),
            &0i64,
            &vec![position + 1],
            &vec![stream],
            // The next position of the stream, which the statement finds.
            &vec![-1i64],
            &vec![false],
            &vec!["old"],
            &vec![group::stream_hash(stream)],
            &vec!["T"],
            &vec![None::<&str>],
            &vec![id],
            &vec![None::<&str>],
            &vec!["{}"],
            &none,
            &head_id,
            &false,
            &true,
        ];
        let appended = self.session.query(&self.append, &values).await.expect("it may use the schema");
        appended.first().map(|_| id)
    }

    /// Appends until it is told to stop; returns what was acknowledged.
    async fn write(self, acknowledged: Arc<AtomicUsize>, stop: Arc<AtomicBool>) -> Vec<Uuid> {
        let mut written = Vec::new();
        while !stop.load(SeqCst) {
            if let Some(id) = self.append(&format!("old-{}", written.len() % 7)).await {
                written.push(id);
                acknowledged.store(written.len(), SeqCst);
            }
        }
        written
    }
}

async fn until(acknowledged: &AtomicUsize, least: usize) {
    while acknowledged.load(SeqCst) < least {
        tokio::task::yield_now().await;
    }
}

/// Writes to streams of its own and to one of the other writer's.
async fn write(log: &Arc<Log>) -> Vec<Uuid> {
    let mut written = Vec::new();
    for at in 0..WRITES {
        let stream = if at % 3 == 0 { "old-1".to_owned() } else { format!("new-{}", at % 5) };
        let mut new = message("T");
        let id = Uuid::new_v4();
        new.id = Some(id);
        write_expecting(log, &stream, Expected::Any, new).await.expect("both may write");
        written.push(id);
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_migrated_under_a_server_of_the_first_version_and_both_write_on() {
    let url = postgres::database().await;
    let token = Token::generate(NAME);
    first_version(&url, &token).await;
    let (acknowledged, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let old = FirstVersion::new(&url).await;
    let old = tokio::spawn(old.write(Arc::clone(&acknowledged), Arc::clone(&stop)));
    until(&acknowledged, WRITES).await;

    let store = open_store(settings(&url), crate::Settings::default()).await;
    let log = store.authorize(&token).await.expect("it answers").expect("the token is good").log().clone();
    let steps = postgres::connect(&url).await.query_one("SELECT count(*) FROM eventodb_2.migrations", &[]).await;
    assert_eq!(steps.expect("good SQL").get::<_, i64>(0), POSTGRES_LOG.len() as i64);
    let migrated = acknowledged.load(SeqCst);
    let mut written = write(&log).await;
    until(&acknowledged, migrated + WRITES).await;
    stop.store(true, SeqCst);
    written.extend(old.await.expect("it does not panic"));

    let found = all(&log).await;
    let at: Vec<i64> = found.iter().map(|message| message.global_position).collect();
    assert_eq!(at, (1..=at.len() as i64).collect::<Vec<_>>());
    let mut ids: Vec<Uuid> = found.iter().skip(super::migrations::MESSAGES.len()).map(|message| message.id).collect();
    ids.sort_unstable();
    written.sort_unstable();
    assert_eq!(ids, written, "what was acknowledged is there, once, and nothing else");
    for stream in found.iter().map(|message| &message.stream) {
        let positions = found.iter().filter(|m| m.stream == *stream).map(|m| m.position);
        assert!(positions.eq(0..found.iter().filter(|m| m.stream == *stream).count() as i64), "{stream}");
    }
    let info = store.info(NAME).await.expect("it lives");
    assert_eq!(info.message_count, found.len() as u64);
    store.close().await;
}
