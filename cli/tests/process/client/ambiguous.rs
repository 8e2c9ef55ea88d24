//! Replies that do not arrive: the connection is cut at every byte of a request and of its reply. After the client's
//! retry each message is there exactly once, at the positions that the client gets.

use eventodb_client::{AppendMany, Appended, CategoryQuery, Client, Expected, NewMessage, StreamQuery};
use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use eventodb_testing::proxy::{Cut, Proxy};
use serde_json::{Value, json};

use crate::server::*;

/// Global positions have four digits from here on, so that replies of one kind are equally long.
const FIRST: i64 = 1000;

/// The calls that are cut. Each writes to streams of its own.
#[derive(Clone, Copy, Debug)]
enum Call {
    Write,
    Append,
    AppendMany,
}

/// The result of one call: by stream, the messages and their positions.
type Told = Vec<(String, Vec<NewMessage<Value>>, Appended)>;

impl Call {
    async fn make(self, client: &Client, number: usize) -> Told {
        let stream = format!("cut-{self:?}-{number:04}");
        let messages = |count| -> Vec<_> { (0..count).map(|n| NewMessage::new("Cut", json!({ "n": n }))).collect() };
        match self {
            Self::Write => {
                let messages = messages(1);
                let written =
                    client.write(&stream, &messages[0], Expected::NoStream).await.expect("written in the end");
                let appended = Appended {
                    first_position: written.position,
                    last_position: written.position,
                    first_global_position: written.global_position,
                    last_global_position: written.global_position,
                };
                vec![(stream, messages, appended)]
            }
            Self::Append => {
                let messages = messages(3);
                let appended = client.append(&stream, &messages, Expected::NoStream).await.expect("written in the end");
                vec![(stream, messages, appended)]
            }
            Self::AppendMany => {
                let streams = [format!("{stream}-a"), format!("{stream}-b")];
                let (one, two) = (messages(2), messages(2));
                let append = AppendMany::new()
                    .entry(&streams[0], Expected::NoStream, &one)
                    .and_then(|append| append.entry(&streams[1], Expected::NoStream, &two))
                    .expect("data are objects");
                let appended = client.append_many(&append).await.expect("written in the end");
                let told = streams.into_iter().zip([one, two]).zip(appended);
                told.map(|((stream, messages), appended)| (stream, messages, appended)).collect()
            }
        }
    }
}

/// Checks that each message is in its stream once, at the position that the client got. Returns the number of messages.
async fn check(client: &Client, told: &Told) -> i64 {
    let mut count = 0;
    for (stream, messages, appended) in told {
        let page = client.get(stream, &StreamQuery::new()).await.expect("a page");
        assert_eq!(page.messages.len(), messages.len(), "{stream}");
        for (at, (found, message)) in (0..).zip(page.messages.iter().zip(messages)) {
            assert_eq!(found.id(), message.id, "{stream}");
            assert_eq!(found.position(), appended.first_position + at, "{stream}");
            assert_eq!(found.global_position(), appended.first_global_position + at, "{stream}");
            count += 1;
        }
        assert_eq!(appended.last_position, appended.first_position + page.messages.len() as i64 - 1);
        assert_eq!(appended.last_global_position, appended.first_global_position + page.messages.len() as i64 - 1);
    }
    count
}

async fn each_message_is_there_once(server: Server) {
    let (direct, proxy) = (server.client(), Proxy::start(&server.address).await);
    let through = super::client(&format!("http://{}", proxy.address()));
    let fill: Vec<_> = (1..FIRST).map(|n| NewMessage::new("Filled", json!({ "n": n }))).collect();
    direct.append("fill-1", &fill, Expected::NoStream).await.expect("filled");
    let mut written = fill.len() as i64;
    for call in [Call::Write, Call::Append, Call::AppendMany] {
        let before = proxy.passed();
        written += check(&direct, &call.make(&through, 0).await).await;
        let after = proxy.passed();
        let (request, reply) = (after.0 - before.0, after.1 - before.1);
        let cuts = (0..request).map(Cut::Request).chain((0..reply).map(Cut::Reply));
        for (number, cut) in (1..).zip(cuts) {
            proxy.cut_at(cut);
            let told = call.make(&through, number).await;
            assert!(proxy.has_cut(), "{call:?} {cut:?}");
            written += check(&direct, &told).await;
        }
        tell(&format!("{call:?}: cut at each of {request} bytes of a request and {reply} bytes of a reply"));
    }
    assert_eq!(direct.head().await.expect("a head"), written, "every position is a message that was told of");
    reads_are_whole(&through, &proxy).await;
    server.stop().await;
}

/// A page whose reply is cut is complete after the retry.
async fn reads_are_whole(client: &Client, proxy: &Proxy) {
    let query = CategoryQuery::new("fill").limit(3);
    let before = proxy.passed().1;
    let page = client.category_get(&query).await.expect("a page");
    for at in 0..proxy.passed().1 - before {
        proxy.cut_at(Cut::Reply(at));
        let again = client.category_get(&query).await.expect("a page in the end");
        assert!(proxy.has_cut(), "{at}");
        let ids = |page: &eventodb_client::Page| page.messages.iter().map(|message| message.id()).collect::<Vec<_>>();
        assert_eq!((ids(&again), again.head), (ids(&page), page.head), "cut at {at}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_replies_on_sqlite() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    each_message_is_there_once(Server::start(directory.path(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ambiguous_replies_on_postgres() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    each_message_is_there_once(Server::start(directory.path(), &["--db-url", &database]).await).await;
}
