//! A read model in SQLite: balances per account, each message counted exactly once however often
//! the process is killed, because the position is committed with the balances.
//!
//! `read_model FILE [CATEGORY]` handles the messages that are there and ends. Without a category it first writes
//! some deposits of its own.
//!
//! To run it against the server that `EVENTODB_URL` and `EVENTODB_TOKEN` name:
//! `cargo run -p eventodb-client --features sqlite --example read_model model.db`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use anyhow::Context as _;
use eventodb_client::checkpoint::SqliteReadModel;
use eventodb_client::worker::{HandlerError, StaticWorker};
use eventodb_client::{BufferSettings, BufferedWriter, Client, Message, NewMessage};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Serialize, Deserialize)]
struct Deposited {
    amount: i64,
}

const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS balance (account TEXT PRIMARY KEY, amount INTEGER NOT NULL, messages INTEGER NOT NULL)";
const ADD: &str = "INSERT INTO balance VALUES (?1, ?2, 1)
    ON CONFLICT (account) DO UPDATE SET amount = amount + excluded.amount, messages = messages + 1";

fn add(connection: &Connection, message: &Message) -> Result<(), HandlerError> {
    let amount = message.decode::<Deposited>()?.amount;
    connection.prepare_cached(ADD)?.execute(params![message.stream(), amount])?;
    Ok(())
}

/// Writes deposits into a category of their own; answers its name.
async fn write_deposits(client: &Client) -> anyhow::Result<String> {
    let category = format!("deposits{}", Uuid::now_v7().simple());
    let writer = BufferedWriter::new(client, BufferSettings::default())?;
    let mut receipts = Vec::new();
    for number in 0..2000 {
        let message = NewMessage::new("Deposited", Deposited { amount: number % 10 });
        receipts.push(writer.send(&format!("{category}-{}", number % 20), &message).await?);
    }
    writer.close().await;
    for receipt in receipts {
        receipt.await?;
    }
    Ok(category)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().context("read_model FILE [CATEGORY]")?;
    let category = match arguments.next() {
        Some(category) => category,
        None => write_deposits(&client).await?,
    };
    Connection::open(&file)?.execute(SCHEMA, [])?;

    let model = SqliteReadModel::new(&file, format!("balances of {category}"), add).types(["Deposited"]);
    let summary = StaticWorker::new(&client, model)
        .categories([&category])
        .checkpoint_every(100, Duration::from_millis(200))
        .until_caught_up()
        .run(CancellationToken::new())
        .await?;
    let totals = "SELECT count(*), total(amount), total(messages) FROM balance WHERE account LIKE ?1 || '-%'";
    let (accounts, amount, messages): (i64, f64, f64) =
        Connection::open(&file)?.query_row(totals, [&category], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    println!(
        "{category}: {} messages now, {accounts} accounts hold {amount} from {messages} messages in all",
        summary.messages
    );
    Ok(())
}
