//! A bank account as an aggregate: many deposits and withdrawals at once, and the balance is right.
//!
//! It ends with an error if a deposit got lost.
//!
//! To run it against the server that `EVENTODB_URL` and `EVENTODB_TOKEN` name:
//! `cargo run -p eventodb-client --example bank_account`
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use anyhow::{Context as _, ensure};
use eventodb_client::{Aggregate, Aggregates, Client, ExecuteError, Message, NewMessage};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What is known of an account: a fold over its messages.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
    movements: u32,
}

#[derive(Serialize, Deserialize)]
struct Moved {
    amount: i64,
}

#[derive(Debug, thiserror::Error)]
#[error("only {0} there")]
struct TooLittle(i64);

impl Aggregate for Account {
    fn apply(&mut self, message: &Message) -> eventodb_client::Result<()> {
        let sign = match message.kind() {
            "Deposited" => 1,
            "Withdrawn" => -1,
            _ => return Ok(()),
        };
        self.balance += sign * message.decode::<Moved>()?.amount;
        self.movements += 1;
        Ok(())
    }
}

impl Account {
    fn withdraw(&self, amount: i64) -> Result<Vec<NewMessage<Moved>>, TooLittle> {
        if self.balance < amount {
            return Err(TooLittle(self.balance));
        }
        Ok(vec![NewMessage::new("Withdrawn", Moved { amount })])
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    const DEPOSITS: u32 = 40;
    let url = std::env::var("EVENTODB_URL").context("EVENTODB_URL must name the server")?;
    let client = Client::new(&url, std::env::var("EVENTODB_TOKEN").ok().as_deref())?;
    let stream = format!("account-{}", Uuid::now_v7().simple());

    let deposits: Vec<_> = (0..DEPOSITS)
        .map(|_| {
            let (accounts, stream) = (Aggregates::<Account>::new(&client).with_snapshots(10), stream.clone());
            tokio::spawn(async move {
                let deposit = |_: &Account| Ok::<_, TooLittle>(vec![NewMessage::new("Deposited", Moved { amount: 5 })]);
                accounts.execute(&stream, deposit).await
            })
        })
        .collect();
    for deposit in deposits {
        deposit.await??;
    }
    let accounts = Aggregates::<Account>::new(&client).with_snapshots(10);
    let account = accounts.load(&stream).await?;
    println!("{stream}: balance {} after {} movements", account.state.balance, account.state.movements);
    ensure!(account.state.balance == i64::from(DEPOSITS) * 5, "a deposit got lost");

    accounts.execute(&stream, |account| account.withdraw(150)).await?;
    match accounts.execute(&stream, |account| account.withdraw(150)).await {
        Err(ExecuteError::Rejected(TooLittle(rest))) => {
            println!("the second withdrawal of 150 is refused: {rest} left")
        }
        other => anyhow::bail!("the second withdrawal should be refused, got {other:?}"),
    }
    Ok(())
}
