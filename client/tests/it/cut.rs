//! The connection is cut at every byte of a reply. The client repeats the same message with the same id, so that a
//! server that writes an id once has the message once.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eventodb_client::{Expected, NewMessage};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::fake::{Answer, Fake};

#[tokio::test]
async fn a_cut_at_every_byte_leaves_one_write() {
    let whole = Answer::ok(r#"{"position":0,"globalPosition":1}"#).bytes().len();
    // For each id: how often it arrived, and with which data.
    let written = Arc::<Mutex<HashMap<String, Vec<String>>>>::default();
    let cut = Arc::new(AtomicUsize::new(usize::MAX));
    let (log, at) = (written.clone(), cut.clone());
    let fake = Fake::start(move |request| {
        let call: Value = serde_json::from_str(&request.body).expect("a call");
        let id = call[3]["id"].as_str().expect("the client sends an id").to_owned();
        let mut log = log.lock();
        log.entry(id.clone()).or_default().push(request.body.clone());
        let position = log.len() - 1;
        assert!(log[&id].iter().all(|body| *body == log[&id][0]));
        let reply = Answer::ok(format!(r#"{{"position":{position},"globalPosition":{}}}"#, position + 1));
        match at.swap(usize::MAX, Ordering::Relaxed) {
            usize::MAX => reply,
            at => Answer::Cut(reply.bytes().into_iter().take(at).collect()),
        }
    })
    .await;
    let client = fake.client();
    for at in 0..whole {
        cut.store(at, Ordering::Relaxed);
        let message = NewMessage::new("Cut", json!({"at": at}));
        let result = client.write("cut-1", &message, Expected::Any).await.expect("written in the end");
        assert_eq!(result.position, i64::try_from(at).expect("small"), "cut at {at}");
        let attempts = written.lock()[&message.id.to_string()].len();
        assert_eq!(attempts, 2, "cut at {at}");
    }
    assert_eq!(written.lock().len(), whole);
}
