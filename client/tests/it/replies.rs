//! How much of a reply is read from a server that is broken or hostile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use eventodb_client::{Client, Error, RetryPolicy, StreamQuery};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::fake::{Answer, Fake};

const MIB: u64 = 1 << 20;
/// More than the buffers of both ends of a connection hold.
const BUFFERS: u64 = 16 * MIB;

/// A server that answers everything with this status and a body that does not end, and the bytes that it could send.
async fn endless(status: u16) -> (Client, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let sent = Arc::<AtomicU64>::default();
    let count = sent.clone();
    tokio::spawn(async move {
        let piece = [format!("{MIB:x}\r\n").into_bytes(), vec![b' '; 1 << 20], b"\r\n".to_vec()].concat();
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let head = format!("HTTP/1.1 {status} X\r\ntransfer-encoding: chunked\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            while stream.write_all(&piece).await.is_ok() {
                count.fetch_add(MIB, Ordering::Relaxed);
            }
        }
    });
    (Client::builder(&url).retry(RetryPolicy::none()).build().expect("a URL"), sent)
}

#[tokio::test]
async fn a_reply_without_messages_has_a_limit() {
    let (client, sent) = endless(200).await;
    let told = |error: Error| {
        assert!(matches!(error, Error::Protocol { .. }), "{error}");
        let sent = sent.swap(0, Ordering::Relaxed);
        assert!(sent <= 64 * MIB + BUFFERS, "{sent} bytes");
    };
    told(client.namespaces().await.expect_err("endless"));
    told(client.ping().await.expect_err("endless"));
}

#[tokio::test]
async fn of_an_error_the_beginning_is_read_and_the_status_decides() {
    for status in [400, 500, 503] {
        let (client, sent) = endless(status).await;
        let error = client.get("a-1", &StreamQuery::new()).await.expect_err("refused");
        assert!(
            matches!(
                (status, &error),
                (400, Error::InvalidRequest { .. }) | (500, Error::Server { .. }) | (503, Error::Unavailable { .. })
            ),
            "{error:?}"
        );
        assert!(error.to_string().len() < 1000, "{error}");
        let sent = sent.load(Ordering::Relaxed);
        assert!(sent <= MIB + BUFFERS, "{status}: {sent} bytes");
    }
}

#[tokio::test]
async fn the_largest_lists_of_the_protocol_fit() {
    let namespace = |number: u32| {
        json!({
            "namespace": format!("{number:0>64}"), "description": "\u{1}".repeat(1024), "protected": false,
            "createdAt": "2026-01-01T00:00:00Z", "messageCount": 0,
        })
    };
    let list: Vec<_> = (0..5000).map(namespace).collect();
    let list = serde_json::to_string(&list).expect("JSON");
    let fake = Fake::start(move |_| Answer::ok(list.clone())).await;
    assert_eq!(fake.client().namespaces().await.expect("it fits").len(), 5000);
}

#[tokio::test]
async fn a_page_of_large_messages_fits() {
    let data = format!("{{\"x\":\"{}\"}}", "x".repeat(1 << 20));
    let row = |position| {
        format!(
            r#"["00000000-0000-0000-0000-000000000001","T",{position},{},{data},null,"2026-01-01T00:00:00Z"]"#,
            position + 1
        )
    };
    let page = format!("[{}]", (0..70).map(row).collect::<Vec<_>>().join(","));
    let fake = Fake::start(move |_| Answer::ok(page.clone())).await;
    let page = fake.client().get("a-1", &StreamQuery::new()).await.expect("it fits");
    assert_eq!(page.messages.len(), 70);
}
