//! Measures the append of the PostgreSQL backend against one that sends its rows by binary `COPY`.
//! See `docs/decisions/0030-unnest-not-copy.md`.
//!
//!     .ci/with-postgres cargo run --release -p eventodb-store --example unnest_or_copy

#![expect(clippy::print_stdout, reason = "it reports to a terminal")]

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use eventodb_protocol::message::Message;
use eventodb_protocol::{Timestamp, Token, group, name};
use eventodb_store::Backend;
use eventodb_store::model::{Batch, Head, NewNamespace};
use eventodb_store::postgres::{Postgres, Settings};
use eventodb_store::storage::Opened;
use eventodb_testing::postgres;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::types::Type;
use uuid::Uuid;

const ROUND: Duration = Duration::from_secs(4);
const ROUNDS: usize = 3;
const TYPES: &[Type] = &[
    Type::INT8,
    Type::TEXT,
    Type::INT8,
    Type::BOOL,
    Type::TEXT,
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::UUID,
    Type::TIMESTAMPTZ,
    Type::TEXT,
    Type::TEXT,
];

#[tokio::main]
async fn main() {
    println!("messages per second, one connection, commits of that many; median of {ROUNDS} rounds of {ROUND:?}");
    println!("{:>8} {:>10} {:>10}", "batch", "UNNEST", "COPY");
    for size in [1, 32, 256, 1000] {
        let (mut unnest, mut copy) = (Target::new().await, Target::new().await);
        let (mut by_unnest, mut by_copy) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            by_unnest.push(unnest.run(size, false).await);
            by_copy.push(copy.run(size, true).await);
        }
        println!("{size:>8} {:>10.0} {:>10.0}", median(by_unnest), median(by_copy));
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

struct Target {
    url: String,
    schema: String,
    opened: Opened,
}

impl Target {
    async fn new() -> Self {
        let url = postgres::database().await;
        let backend = Postgres::open(Settings::new(url.parse().expect("a good URL"))).await.expect("it is ours");
        let new = NewNamespace {
            name: "test".to_owned(),
            token_hash: Token::generate("test").hash(),
            description: String::new(),
            metadata: "{}".to_owned(),
        };
        let log = backend.create(&new).await.expect("the name is free").incarnation;
        let opened = backend.open(log).await.expect("it lives");
        Self { url, schema: format!("eventodb_{}", log.0), opened }
    }

    async fn run(&mut self, size: usize, copy: bool) -> f64 {
        let client = postgres::connect(&self.url).await;
        let insert = format!(
            "INSERT INTO {0}.batches SELECT seq + 1, $1, $2, message_count + $3, 0, greatest(clock_timestamp(), time) \
             FROM {0}.batches WHERE seq = $4 ON CONFLICT DO NOTHING RETURNING time",
            self.schema
        );
        let insert = client.prepare(&insert).await.expect("good SQL");
        let mut head = self.opened.storage.head().await.expect("it answers");
        let (start, from) = (Instant::now(), head.position);
        while start.elapsed() < ROUND {
            let batch = batch(head, size);
            let last = head.position + size as i64;
            if copy {
                let count = size as i64;
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                    [&batch.id, &last, &count, &head.batch];
                let (begun, row) = tokio::join!(client.batch_execute("BEGIN"), client.query_one(&insert, &parameters));
                begun.expect("good SQL");
                let time: std::time::SystemTime = row.expect("nobody else writes").get(0);
                let sink = format!("COPY {}.messages FROM STDIN BINARY", self.schema);
                let sink = client.copy_in(&sink).await.expect("good SQL");
                let mut writer = pin!(BinaryCopyInWriter::new(sink, TYPES));
                for message in &batch.messages {
                    let (category, hash) = (name::category(&message.stream), group::stream_hash(&message.stream));
                    let (stream, kind, data) = (&*message.stream, &*message.kind, &*message.data);
                    let row: [&(dyn tokio_postgres::types::ToSql + Sync); 12] = [
                        &message.global_position,
                        &stream,
                        &message.position,
                        &true,
                        &category,
                        &hash,
                        &kind,
                        &None::<&str>,
                        &message.id,
                        &time,
                        &None::<&str>,
                        &data,
                    ];
                    writer.as_mut().write(&row).await.expect("the types fit");
                }
                writer.finish().await.expect("the rows fit");
                client.batch_execute("COMMIT").await.expect("good SQL");
            } else {
                self.opened.appender.submit(Arc::new(batch.clone())).await.expect("nobody else writes");
            }
            head = Head { position: last, batch: head.batch + 1, id: batch.id, ..head };
        }
        (head.position - from) as f64 / start.elapsed().as_secs_f64()
    }
}

/// Messages of 70 bytes to new streams of 20 categories.
fn batch(after: Head, size: usize) -> Batch {
    let message = |at: i64| Message {
        id: Uuid::now_v7(),
        stream: format!("category{}-{}", at % 20, at).into(),
        kind: "Happened".into(),
        position: 0,
        global_position: at,
        data: r#"{"account":"0123456789","amount":1234.56,"currency":"EUR","note":"x"}"#.into(),
        metadata: None,
        time: Timestamp::default(),
    };
    let messages: Vec<Message> = (after.position + 1..).take(size).map(message).collect();
    let starts_stream = vec![true; size];
    Batch {
        id: Uuid::new_v4(),
        after,
        starts_stream,
        messages,
        open: foldhash::HashSet::default(),
        keep_times: false,
        groups: Vec::new(),
    }
}
