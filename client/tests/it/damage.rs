//! A damaged message: a page ends before it, and a read that begins at it fails. Nobody takes such a page for the end.

use eventodb_client::checkpoint::MemoryCheckpoint;
use eventodb_client::worker::{Checkpointed, Handlers, StaticWorker, WorkerError};
use eventodb_client::{Aggregate, Aggregates, Error, Message};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::fake::{Answer, Fake, Request};

const DAMAGED: i64 = 5;
const END: i64 = 9;

/// Answers reads of a log whose messages are all in `a-1`, up to `last`, with these headers about where the pages end.
fn page(request: &Request, last: i64, tells_head: bool) -> Answer {
    let call: Value = serde_json::from_str(&request.body).expect("a call");
    let options = &call[2];
    let in_stream = call[0] == "stream.get";
    let from = match in_stream {
        true => options["position"].as_i64().expect("a position") + 1,
        false => options["globalPosition"].as_i64().expect("a position").max(1),
    };
    if from == DAMAGED && last > DAMAGED {
        return Answer::error(500, "DATA_DAMAGED");
    }
    let end = if from < DAMAGED { last.min(DAMAGED - 1) } else { last };
    let row = |at: i64| {
        let (id, time) = (uuid::Uuid::from_u128(at.unsigned_abs().into()), "2026-01-01T00:00:00Z");
        match in_stream {
            true => json!([id, "T", at - 1, at, {}, null, time]),
            false => json!([id, "a-1", "T", at - 1, at, {}, null, time]),
        }
    };
    let rows: Vec<Value> = (from..=end).map(row).collect();
    let head = if end < last { end } else { END };
    let page = Answer::ok(Value::from(rows).to_string());
    if tells_head { page.with_header(&format!("x-eventodb-head: {head}")) } else { page }
}

/// How many messages its stream has.
#[derive(Debug, Default)]
struct Count(usize);

impl Aggregate for Count {
    fn apply(&mut self, _: &Message) -> Result<(), Error> {
        self.0 += 1;
        Ok(())
    }
}

#[tokio::test]
async fn half_an_aggregate_is_not_loaded() {
    for tells_head in [true, false] {
        let fake = Fake::start(move |request| page(request, END, tells_head)).await;
        let error = Aggregates::<Count>::new(&fake.client()).load("a-1").await.expect_err("half of it cannot be read");
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
        assert!(!error.is_transient() && error.is_certainly_not_done());
        assert_eq!(fake.bodies().len(), 2, "such an answer is not asked for again");
    }
}

#[tokio::test]
async fn an_aggregate_is_loaded_by_one_request_if_its_page_says_that_it_is_whole() {
    for (tells_head, requests) in [(true, 1), (false, 2)] {
        let fake = Fake::start(move |request| page(request, 3, tells_head)).await;
        let loaded = Aggregates::<Count>::new(&fake.client()).load("a-1").await.expect("loaded");
        assert_eq!((loaded.state.0, loaded.version), (3, Some(2)));
        assert_eq!(fake.bodies().len(), requests);
    }
}

#[tokio::test]
async fn a_worker_has_not_caught_up_before_a_damaged_message() {
    for tells_head in [true, false] {
        let fake = Fake::start(move |request| page(request, END, tells_head)).await;
        let handlers = Handlers::new().otherwise(|_| async { Ok::<_, std::io::Error>(()) });
        let checkpoint = MemoryCheckpoint::new();
        let result = StaticWorker::new(&fake.client(), Checkpointed::new(handlers, checkpoint.clone()))
            .categories(["a"])
            .until_caught_up()
            .run(CancellationToken::new())
            .await;
        assert!(matches!(result, Err(WorkerError::Client(Error::Damaged { .. }))), "{result:?}");
        assert_eq!(checkpoint.position(), Some(DAMAGED - 1));
    }
}
