//! A consumer group of four processes over many streams: every message is handled by exactly one of
//! them, in order within its stream, while messages are still being written.

use std::collections::{HashMap, HashSet};

use eventodb_store::testing::tell;
use tokio::time::Instant;

use super::killed::{all, fill};
use super::worker::{Checkpoint, Settings, handled, read_journal};
use crate::server::*;

const MEMBERS: i64 = 4;
const STREAMS: usize = 10_000;
const PER_STREAM: usize = 6;

#[tokio::test(flavor = "multi_thread")]
async fn four_members_share_ten_thousand_streams() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&directory.path().join("data"), &[]).await;
    let client = server.client();
    let messages = STREAMS * PER_STREAM;
    fill(&client, "thing", STREAMS, 0..messages / 2).await;
    let members: Vec<Settings> = (0..MEMBERS)
        .map(|member| Settings {
            url: server.url(),
            category: "thing".to_owned(),
            group: Some((member, MEMBERS)),
            checkpoint: Checkpoint::InTheStore,
            every: 1000,
            until_caught_up: false,
            journal: directory.path().join(format!("journal-{member}")),
        })
        .collect();
    let workers: Vec<_> = members.iter().map(Settings::start).collect();
    fill(&client, "thing", STREAMS, messages / 2..messages).await;
    let deadline = Instant::now() + PATIENCE;
    while members.iter().map(|member| handled(&member.journal)).sum::<usize>() < messages {
        assert!(Instant::now() < deadline, "the members do not come to the end");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    for mut worker in workers {
        assert_eq!(worker.try_wait().expect("a child"), None, "a member ended");
        worker.kill().await.expect("it ran");
    }

    let log: HashMap<i64, String> = all(&client, "thing")
        .await
        .iter()
        .map(|message| (message.global_position(), message.stream().to_owned()))
        .collect();
    let mut owners: HashMap<&str, usize> = HashMap::new();
    let mut seen = HashSet::new();
    let mut shares = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let journal = read_journal(&member.journal);
        assert!(journal.is_sorted(), "member {number} handled a stream out of order");
        for position in &journal {
            assert!(seen.insert(*position), "{position} was handled twice");
            let owner = *owners.entry(&log[position]).or_insert(number);
            assert_eq!(owner, number, "{} has two members", log[position]);
        }
        shares.push(journal.len());
    }
    assert_eq!(seen.len(), log.len());
    assert_eq!(owners.len(), STREAMS);
    tell(&format!("{messages} messages of {STREAMS} streams, shared as {shares:?}"));
    server.stop().await;
}
