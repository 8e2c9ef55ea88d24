//! Money moved by atomic appends to two streams: a reader that reads the log up to a known head finds no half-done
//! transfer, and always the same sum.

use std::collections::HashMap;

use eventodb_client::{
    AppendMany, CategoryQuery, Client, Error, Event, Expected, Message, NewMessage, StreamQuery, Subscribe,
    Subscription,
};
use eventodb_store::testing::tell;
use eventodb_testing::postgres;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};

use crate::server::*;

const ACCOUNTS: usize = 20;
const BALANCE: i64 = 1_000;
const CLIENTS: usize = 32;
const TRANSFERS: usize = 25;
const READERS: usize = 3;

#[derive(Clone, Serialize, Deserialize)]
struct Moved {
    amount: i64,
    transfer: Option<u64>,
}

/// The balances that a reader computes from the log.
#[derive(Default)]
struct Ledger {
    balances: HashMap<String, i64>,
    open: Option<u64>,
    transfers: usize,
    at: i64,
    ended: bool,
}

impl Ledger {
    /// Applies the next message. The two messages of a transfer follow each other.
    fn take(&mut self, message: &Message) {
        assert!(message.global_position() > self.at, "read in global order");
        self.at = message.global_position();
        self.ended = message.kind() == "Ended";
        let moved: Moved = message.decode().expect("a movement");
        *self.balances.entry(message.stream().to_owned()).or_default() += moved.amount;
        match (self.open.take(), moved.transfer) {
            (None, transfer) => self.open = transfer,
            (open, transfer) => {
                assert_eq!(open, transfer, "another transfer begins within one");
                self.transfers += 1;
            }
        }
    }

    /// Reads up to the head that the server sends. There the sum must be right.
    async fn read_on(&mut self, client: &Client) {
        let head = client.head().await.expect("a head");
        while self.at < head {
            let query = CategoryQuery::new("account").from(self.at + 1).limit(100);
            let page = client.category_get(&query).await.expect("a page");
            for message in page.messages.iter().filter(|message| message.global_position() <= head) {
                self.take(message);
            }
        }
        assert_eq!(self.open, None, "half a transfer at head {head}");
        assert_eq!(self.balances.values().sum::<i64>(), ACCOUNTS as i64 * BALANCE, "at head {head}");
    }
}

fn account(number: usize) -> String {
    format!("account-{number}")
}

/// Balance and version of an account.
async fn load(client: &Client, account: &str) -> (i64, i64) {
    let page = client.get(account, &StreamQuery::new().limit(10_000)).await.expect("an account");
    let balance = page.messages.iter().map(|message| message.decode::<Moved>().expect("a movement").amount).sum();
    (balance, page.messages.last().expect("it was opened").position())
}

/// Moves money between two random accounts, neither of which must change meanwhile. Returns the number of attempts.
async fn transfer(client: &Client) -> u64 {
    for attempt in 1.. {
        let from = rand::rng().random_range(0..ACCOUNTS);
        let to = (from + rand::rng().random_range(1..ACCOUNTS)) % ACCOUNTS;
        let (from, to) = (account(from), account(to));
        let ((balance, from_version), (_, to_version)) = tokio::join!(load(client, &from), load(client, &to));
        let amount = rand::rng().random_range(1..=balance.clamp(1, 100));
        let transfer = Some(rand::random::<u64>() >> 1);
        let moved = |amount| [NewMessage::new("Moved", Moved { amount, transfer })];
        let append = AppendMany::new()
            .entry(&from, Expected::Version(from_version), &moved(-amount))
            .and_then(|append| append.entry(&to, Expected::Version(to_version), &moved(amount)))
            .expect("movements are objects");
        match client.append_many(&append).await {
            Ok(_) => return attempt,
            Err(Error::VersionConflict { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    unreachable!("attempts have no end")
}

async fn transfers_are_never_half_there(server: Server) {
    let client = server.client();
    for number in 0..ACCOUNTS {
        let opened = NewMessage::new("Opened", Moved { amount: BALANCE, transfer: None });
        client.write(&account(number), &opened, Expected::NoStream).await.expect("opened");
    }
    // The first reader waits for new messages; the others poll all the time.
    let readers: Vec<_> =
        (0..READERS).map(|reader| tokio::spawn(read_to_the_end(server.client(), reader == 0))).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let client = server.client();
            tokio::spawn(async move {
                let mut attempts = 0;
                for _ in 0..TRANSFERS {
                    attempts += transfer(&client).await;
                }
                attempts
            })
        })
        .collect();
    let mut attempts = 0;
    for client in clients {
        attempts += client.await.expect("a client does not panic");
    }
    let end = NewMessage::new("Ended", Moved { amount: 0, transfer: None });
    client.write(&account(0), &end, Expected::Exists).await.expect("written");
    let mut heads = 0;
    for reader in readers {
        let (transfers, looked) = reader.await.expect("a reader does not panic");
        assert_eq!(transfers, CLIENTS * TRANSFERS);
        heads += looked;
    }
    tell(&format!("{} transfers in {attempts} attempts, looked at from {heads} heads", CLIENTS * TRANSFERS));
    server.stop().await;
}

/// Reads to one head after the other until the writers have ended. Returns the numbers of transfers and of heads.
async fn read_to_the_end(client: Client, is_told: bool) -> (usize, usize) {
    let (mut ledger, mut heads) = (Ledger::default(), 0);
    let mut subscription = client.subscribe(Subscribe::category("account"));
    while !ledger.ended {
        if is_told {
            news(&mut subscription, ledger.at).await;
        }
        ledger.read_on(&client).await;
        heads += 1;
    }
    (ledger.transfers, heads)
}

/// Waits until there is a message after `position`.
async fn news(subscription: &mut Subscription, position: i64) {
    loop {
        match subscription.next().await.expect("pokes") {
            Event::Poke(poke) if poke.global_position > position => return,
            Event::Poke(_) | Event::Connected | Event::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_on_sqlite() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    transfers_are_never_half_there(Server::start(directory.path(), &[]).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_on_postgres() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let database = postgres::database().await;
    transfers_are_never_half_there(Server::start(directory.path(), &["--db-url", &database]).await).await;
}
