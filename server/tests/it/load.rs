//! What `/metrics` counts of many clients at once, beside counts that the clients keep themselves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use eventodb_protocol::Token;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::events::Events;
use crate::metrics::{Scrape, scrape};
use crate::server::{Server, within};

const CLIENTS: usize = 16;
/// Requests of a round of [`Tally::round`].
const CALLS: usize = 5;

/// What the clients have seen.
#[derive(Debug, Default)]
struct Tally {
    /// Replies by the series of `/metrics` that counts them.
    replies: BTreeMap<String, f64>,
    /// How long each write took.
    writes: Vec<Duration>,
}

impl Tally {
    /// Five calls on one connection.
    async fn round(&mut self, client: &mut Client, token: &str, stream: &str, round: usize) {
        let calls: [(&str, String); CALLS] = [
            ("stream.write", format!(r#"["stream.write","{stream}",{{"type":"T","data":{{}}}}]"#)),
            (
                // Of the clients that expect the same version, one is right.
                "stream.write",
                format!(r#"["stream.write","shared-1",{{"type":"T","data":{{}}}},{{"expectedVersion":{round}}}]"#),
            ),
            ("stream.get", format!(r#"["stream.get","{stream}",{{"batchSize":2}}]"#)),
            ("group.heartbeat", r#"["group.heartbeat","g","nobody"]"#.to_owned()),
            ("unknown call", "{".to_owned()),
        ];
        for (method, call) in calls {
            let begun = Instant::now();
            let status = client.call(Some(token), &call).await.status;
            if method == "stream.write" {
                self.writes.push(begun.elapsed());
            }
            *self.replies.entry(series(method, status)).or_default() += 1.0;
        }
    }

    fn join(&mut self, other: Self) {
        for (series, count) in other.replies {
            *self.replies.entry(series).or_default() += count;
        }
        self.writes.extend(other.writes);
    }
}

fn series(method: &str, status: u16) -> String {
    format!("eventodb_requests_total{{method=\"{method}\",status=\"{status}\"}}")
}

/// How many requests there are in all; for a longer run, say by `EVENTODB_TEST_REQUESTS`.
fn requests() -> usize {
    std::env::var("EVENTODB_TEST_REQUESTS").map_or(4_000, |requests| requests.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_many_clients_is_counted_to_the_last_request_message_and_poke() {
    let server = Server::start().await;
    let token = Token::generate("shop").to_string();
    server.rpc(&token, r#"["group.create","g",{"categories":["a"],"partitions":2}]"#).await;
    let mut events = Events::subscribe(&server, &token, "all=true").await;
    events.up_to(": caught-up").await;
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (mut client, token) = (server.connect().await, token.clone());
        clients.spawn(async move {
            let mut tally = Tally::default();
            for round in 0..requests() / CLIENTS / CALLS {
                tally.round(&mut client, &token, &format!("a-{number}"), round).await;
            }
            tally
        });
    }
    let mut tally = Tally::default();
    while let Some(other) = clients.join_next().await {
        tally.join(other.expect("the client does not fail"));
    }
    let written = tally.replies[&series("stream.write", 200)];
    let pokes = pokes(&mut events, written as usize).await;
    let scrape = scrape(&mut server.connect().await, None).await;
    compare(&scrape, &tally, pokes);
    tell_quantiles(&scrape, tally.writes);
}

/// Reads pokes until they are as many as the messages that were written, and for as long as more come at once.
async fn pokes(events: &mut Events, written: usize) -> usize {
    let mut pokes = 0;
    while pokes < written {
        let frame = within("a frame", events.next()).await.expect("the stream goes on");
        pokes += usize::from(frame.contains("event: poke"));
    }
    pokes
}

fn compare(scrape: &Scrape, tally: &Tally, pokes: usize) {
    for (series, count) in &tally.replies {
        assert_eq!(scrape.value(series), *count, "{series}");
    }
    let of = |method, status| tally.replies.get(&series(method, status)).copied().unwrap_or_default();
    let (written, conflicts, fenced) = (of("stream.write", 200), of("stream.write", 409), of("group.heartbeat", 409));
    for (name, count) in [
        ("eventodb_appends_total{outcome=\"written\"}", written),
        ("eventodb_appends_total{outcome=\"version\"}", conflicts),
        ("eventodb_errors_total{code=\"STREAM_VERSION_CONFLICT\"}", conflicts),
        ("eventodb_appended_messages_total", written),
        ("eventodb_pokes_total", pokes as f64),
        ("eventodb_group_fenced_total", fenced),
        ("eventodb_errors_total{code=\"FENCED\"}", fenced),
        ("eventodb_request_duration_seconds_count{method=\"stream.write\"}", written + conflicts),
    ] {
        assert_eq!(scrape.value(name), count, "{name}");
    }
    assert!(conflicts > 0.0 && fenced > 0.0);
}

/// Prints what the clients and the server say of the writes. The server does not see the way to it.
#[expect(clippy::print_stdout, reason = "for whoever runs it with --nocapture")]
fn tell_quantiles(scrape: &Scrape, mut writes: Vec<Duration>) {
    writes.sort_unstable();
    for quantile in [0.5, 0.95, 0.99] {
        let rank = (writes.len() as f64 * quantile) as usize;
        let (least, most) = scrape.bucket("eventodb_request_duration_seconds", "method=\"stream.write\"", rank as f64);
        println!("{quantile}: clients {:?}, server {least} to {most} s", writes[rank]);
    }
}
