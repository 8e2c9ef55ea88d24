//! A process manager: transfers between two accounts, each begun by a command and carried through by a worker, step by
//! step. A step is written in one commit with the worker's checkpoint. So it happens exactly once, however often the
//! worker is killed, and with any number of workers.
//!
//! It ends with an error if money appears or vanishes.
//!
//! To run it against the server that `EVENTODB_URL` and `EVENTODB_TOKEN` name:
//! `cargo run -p eventodb-client --example transfer`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use eventodb_client::worker::{Atomic, Context, MessageType, Worker};
use eventodb_client::{
    Aggregate, Aggregates, AppendMany, Client, Expected, Message, NewMessage, RetryPolicy, StreamQuery, with_retry,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Transfer {
    from: String,
    to: String,
    amount: i64,
}

impl MessageType for Transfer {
    const TYPE: &'static str = "Requested";
}

#[derive(Serialize, Deserialize)]
struct Moved {
    amount: i64,
}

#[derive(Default)]
struct Balance(i64);

impl Aggregate for Balance {
    fn apply(&mut self, message: &Message) -> eventodb_client::Result<()> {
        let amount = message.decode::<Moved>()?.amount;
        self.0 += if message.kind() == "Withdrawn" { -amount } else { amount };
        Ok(())
    }
}

/// Money leaves the one account, or the transfer is refused. If another transfer comes between, it decides again.
async fn withdraw(client: Client, requested: Message<Transfer>, context: Context<Atomic>) -> anyhow::Result<()> {
    let transfer = &requested.data;
    let accounts = Aggregates::<Balance>::new(&client);
    with_retry(RetryPolicy::default(), || async {
        let account = accounts.load(&transfer.from).await?;
        let (kind, stream, expected) = if account.state.0 >= transfer.amount {
            ("Withdrawn", transfer.from.as_str(), account.expected())
        } else {
            ("Refused", requested.stream(), Expected::Any)
        };
        let moved = NewMessage::new(kind, Moved { amount: transfer.amount })
            .caused_by(&requested)
            .correlated_with(requested.stream());
        context.commit_with(AppendMany::new().entry(stream, expected, &[moved])?).await
    })
    .await?;
    Ok(())
}

/// What left the one account arrives at the other, and the transfer is complete.
async fn deposit(client: Client, withdrawn: Message, context: Context<Atomic>) -> anyhow::Result<()> {
    let stream = withdrawn.correlation_stream().context("the withdrawal belongs to a transfer")?;
    let page = client.get(&stream, &StreamQuery::new().limit(1)).await?;
    let transfer: Transfer = page.messages.first().context("the transfer was requested")?.decode()?;
    let moved = |kind: &str| NewMessage::new(kind, Moved { amount: transfer.amount }).caused_by(&withdrawn);
    let append = AppendMany::new().entry(&transfer.to, Expected::Any, &[moved("Deposited")])?.entry(
        &stream,
        Expected::Any,
        &[moved("Completed")],
    )?;
    context.commit_with(append).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    const TRANSFERS: u32 = 20;
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    // Categories of its own, so that the example can run again and again.
    let run = Uuid::now_v7().simple().to_string();
    let (accounts, transfers) = (format!("account{run}"), format!("transfer{run}"));
    let (a, b) = (format!("{accounts}-a"), format!("{accounts}-b"));
    client.write(&a, &NewMessage::new("Deposited", Moved { amount: 100 }), Expected::NoStream).await?;

    let ended = Arc::new(AtomicU32::new(0));
    let stop = CancellationToken::new();
    let (for_withdraw, for_deposit) = (client.clone(), client.clone());
    let (count, all_ended) = (ended.clone(), stop.clone());
    let end = move |_: Message, _: Context<Atomic>| {
        if count.fetch_add(1, Ordering::Relaxed) + 1 == TRANSFERS {
            all_ended.cancel();
        }
        async { Ok::<_, anyhow::Error>(()) }
    };
    let worker = Worker::atomic(&client, &transfers)
        .categories([&accounts, &transfers])
        .on(move |message, context| withdraw(for_withdraw.clone(), message, context))
        .on_type("Withdrawn", move |message, context| deposit(for_deposit.clone(), message, context))
        .on_type("Completed", end.clone())
        .on_type("Refused", end);
    let worker = tokio::spawn(worker.run(stop));

    for number in 0..TRANSFERS {
        let transfer = Transfer { from: a.clone(), to: b.clone(), amount: 7 };
        let requested = NewMessage::new("Requested", transfer);
        client.write(&format!("{transfers}-{number}"), &requested, Expected::NoStream).await?;
    }
    worker.await??;
    let balances = Aggregates::<Balance>::new(&client);
    let (a, b) = (balances.load(&a).await?.state.0, balances.load(&b).await?.state.0);
    println!("{TRANSFERS} transfers of 7 requested: {a} left, {b} arrived");
    ensure!((a, b) == (2, 98), "money appeared or vanished");
    Ok(())
}
