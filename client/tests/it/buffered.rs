//! The buffered writer: the order within a stream despite failures, a result for each message, back-pressure.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use eventodb_client::{BufferSettings, BufferedWriter, Error, NewMessage};
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake, Request};

/// A store that writes an id once, and fails before or after it has written, as a seed decides.
#[derive(Default)]
struct Store {
    streams: HashMap<String, Vec<(String, i64)>>,
    known: HashMap<String, (i64, i64)>,
    head: i64,
}

impl Store {
    /// The reply to `stream.append` or `streams.append`.
    fn append(&mut self, request: &Request) -> String {
        let call: Value = serde_json::from_str(&request.body).expect("a call");
        if call[0] == "stream.append" {
            let stream = call[1].as_str().expect("a name");
            return self.append_to(stream, &call[2]).to_string();
        }
        let entries = call[1].as_array().expect("entries");
        let results = entries.iter().map(|entry| {
            let stream = entry["stream"].as_str().expect("a name");
            self.append_to(stream, &entry["messages"])
        });
        Value::from(results.collect::<Vec<_>>()).to_string()
    }

    fn append_to(&mut self, stream: &str, messages: &Value) -> Value {
        let placed: Vec<(i64, i64)> = messages
            .as_array()
            .expect("messages")
            .iter()
            .map(|message| {
                let id = message["id"].as_str().expect("an id").to_owned();
                let number = message["data"]["n"].as_i64().expect("a number");
                if let Some(place) = self.known.get(&id) {
                    return *place;
                }
                let list = self.streams.entry(stream.to_owned()).or_default();
                self.head += 1;
                let place = (i64::try_from(list.len()).expect("small"), self.head);
                list.push((id.clone(), number));
                self.known.insert(id, place);
                place
            })
            .collect();
        let (first, last) = (placed[0], placed[placed.len() - 1]);
        json!({"firstPosition": first.0, "lastPosition": last.0, "firstGlobalPosition": first.1, "lastGlobalPosition": last.1})
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn order_within_a_stream_is_kept_over_failures(
        streams in proptest::collection::vec(0usize..7, 1..120),
        failures in proptest::collection::vec(0u8..5, 40),
        in_flight in 1usize..5,
        batch in 1usize..9,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let store = Arc::<Mutex<Store>>::default();
            let (served, calls) = (store.clone(), AtomicUsize::new(0));
            let fake = Fake::start(move |request| {
                let failure = failures.get(calls.fetch_add(1, Ordering::Relaxed)).copied().unwrap_or(0);
                match failure {
                    1 => Answer::error(503, "OVERLOADED"),
                    2 => Answer::Cut(Vec::new()),
                    3 => {
                        let reply = Answer::ok(served.lock().append(request)).bytes();
                        Answer::Cut(reply[..reply.len() - 1].to_vec())
                    }
                    _ => Answer::ok(served.lock().append(request)),
                }
            })
            .await;
            let retry = eventodb_client::RetryPolicy { first: Duration::from_millis(1), longest: Duration::from_millis(2), ..Default::default() };
            let settings =
                BufferSettings { messages: batch, in_flight, retry, delay: Duration::from_millis(1), ..Default::default() };
            let writer = BufferedWriter::new(&fake.client(), settings).expect("settings");
            let mut receipts = Vec::new();
            for (number, stream) in streams.iter().enumerate() {
                let message = NewMessage::new("T", json!({"n": number}));
                let id = message.id.to_string();
                receipts.push((id, writer.send(&format!("s-{stream}"), &message).await.expect("taken")));
            }
            writer.close().await;
            for (id, receipt) in receipts {
                let written = receipt.await.expect("written in the end");
                assert_eq!(store.lock().known[&id], (written.position, written.global_position));
            }
            for list in store.lock().streams.values() {
                assert!(list.is_sorted_by_key(|(_, number)| *number), "{list:?}");
            }
            assert_eq!(store.lock().known.len(), streams.len());
        });
    }
}

#[tokio::test]
async fn only_the_culprit_of_a_batch_fails() {
    let store = Arc::<Mutex<Store>>::default();
    let served = store.clone();
    let fake = Fake::start(move |request| {
        if request.body.contains(r#""n":5}"#) {
            return Answer::error(413, "PAYLOAD_TOO_LARGE");
        }
        Answer::ok(served.lock().append(request))
    })
    .await;
    let writer = BufferedWriter::new(&fake.client(), BufferSettings::default()).expect("settings");
    let mut receipts = Vec::new();
    for number in 0..20 {
        let message = NewMessage::new("T", json!({"n": number}));
        receipts.push(writer.send("s-1", &message).await.expect("taken"));
    }
    writer.flush().await;
    for (number, receipt) in receipts.into_iter().enumerate() {
        let result = receipt.await;
        assert_eq!(matches!(result, Err(Error::TooLarge { .. })), number == 5, "{number}: {result:?}");
    }
    let numbers: Vec<_> = store.lock().streams["s-1"].iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, (0..20).filter(|number| *number != 5).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_full_buffer_makes_senders_wait() {
    let fake = Fake::start(|_| Answer::Events { text: String::new(), then_cut: false }).await;
    let settings = BufferSettings { buffered_bytes: 1000, ..BufferSettings::default() };
    let writer = BufferedWriter::new(&fake.client(), settings).expect("settings");
    let message = NewMessage::new("T", json!({"text": "x".repeat(300)}));
    let mut receipts = Vec::new();
    for _ in 0..2 {
        receipts.push(writer.send("s-1", &message).await.expect("taken"));
    }
    let waits = tokio::time::timeout(Duration::from_secs(1), writer.send("s-1", &message)).await;
    assert!(waits.is_err(), "the third message has no room");
    let large = NewMessage::new("T", json!({"text": "x".repeat(2000)}));
    assert!(matches!(writer.send("s-1", &large).await, Err(Error::TooLarge { .. })));
}
