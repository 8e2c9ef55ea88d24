//! A read model in PostgreSQL over the pool of a service: messages per stream, each counted exactly once, because the
//! position is committed with the counts. The service's own queries use the same pool.
//!
//! `read_model_postgres DATABASE [CATEGORY]` handles the messages that are there and ends. Without a category it first
//! writes some messages of its own.
//!
//! To run it against the server that `EVENTODB_URL` and `EVENTODB_TOKEN` name:
//! `cargo run -p eventodb-client --features postgres --example read_model_postgres postgres://me:secret@localhost/mine`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::Context as _;
use async_trait::async_trait;
use deadpool_postgres::{Manager, Pool};
use eventodb_client::checkpoint::{PostgresHandler, PostgresReadModel};
use eventodb_client::worker::{HandlerError, StaticWorker};
use eventodb_client::{Client, Expected, Message, NewMessage};
use serde_json::json;
use tokio_postgres::NoTls;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS message_count (stream text PRIMARY KEY, messages bigint NOT NULL)";
const COUNT: &str = "INSERT INTO message_count VALUES ($1, 1)
    ON CONFLICT (stream) DO UPDATE SET messages = message_count.messages + 1";
const TOTALS: &str = "SELECT count(*), coalesce(sum(messages), 0)::bigint FROM message_count
    WHERE starts_with(stream, $1 || '-')";

struct Counts;

#[async_trait]
impl PostgresHandler for Counts {
    async fn handle(&mut self, connection: &tokio_postgres::Client, message: &Message) -> Result<(), HandlerError> {
        connection.execute(COUNT, &[&message.stream()]).await?;
        Ok(())
    }
}

/// Writes messages into a category of their own; answers its name.
async fn write_messages(client: &Client) -> anyhow::Result<String> {
    let category = format!("visits{}", Uuid::now_v7().simple());
    for number in 0..100 {
        let message = NewMessage::new("Visited", json!({ "number": number }));
        client.write(&format!("{category}-{}", number % 10), &message, Expected::Any).await?;
    }
    Ok(category)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    let mut arguments = std::env::args().skip(1);
    let database = arguments.next().context("read_model_postgres DATABASE [CATEGORY]")?;
    let category = match arguments.next() {
        Some(category) => category,
        None => write_messages(&client).await?,
    };
    let pool = Pool::builder(Manager::new(database.parse()?, NoTls)).max_size(4).build()?;
    pool.get().await?.batch_execute(SCHEMA).await?;

    let model = PostgresReadModel::with_pool(pool.clone(), format!("counts of {category}"), Counts);
    let worker = StaticWorker::new(&client, model).categories([&category]).until_caught_up();
    let summary = worker.run(CancellationToken::new()).await?;

    let totals = pool.get().await?.query_one(TOTALS, &[&category]).await?;
    let (streams, messages): (i64, i64) = (totals.get(0), totals.get(1));
    println!("{category}: {} messages now, {streams} streams have {messages} messages in all", summary.messages);
    Ok(())
}
