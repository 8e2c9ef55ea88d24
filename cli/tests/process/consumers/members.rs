//! Members of several groups, beside servers that are replaced.

use std::time::Duration;

use eventodb_client::Client;
use eventodb_client::group::CreateGroup;

use super::local::{Journal, Run};
use super::until_handled;
use crate::server::TOKEN;

const GROUPS: usize = 4;
const MEMBERS: usize = 4;
const PARTITIONS: u32 = 8;
/// Longer than a server takes to be replaced.
const SESSION: Duration = Duration::from_secs(30);

/// Four members each of four groups, which read everything. Each calls one server, and waits for another in its place.
pub(crate) struct Members {
    client: Client,
    groups: Vec<(String, Journal, Vec<Run>)>,
}

impl Members {
    pub(crate) async fn start(addresses: &[String; 2]) -> Self {
        let clients =
            addresses.each_ref().map(|address| Client::new(&format!("http://{address}"), Some(TOKEN)).expect("a URL"));
        let mut groups = Vec::new();
        for number in 0..GROUPS {
            let (name, journal) = (format!("g-{number}"), Journal::default());
            let session_ms = u64::try_from(SESSION.as_millis()).ok();
            let create = CreateGroup { partitions: Some(PARTITIONS), session_ms, ..CreateGroup::default() };
            clients[0].group(&name).create(&create).await.expect("created");
            let run = |member| Run::start(journal.worker(&clients[member % 2], &name, member));
            let runs = (0..MEMBERS).map(run).collect();
            groups.push((name, journal, runs));
        }
        let [client, _] = clients;
        Self { client, groups }
    }

    /// Waits until everything up to a position is handled: by each group once, in order within a stream.
    pub(crate) async fn end(self, head: i64) {
        for (name, journal, runs) in self.groups {
            until_handled(&self.client.group(&name), head).await;
            for run in runs {
                run.stop().await;
            }
            let streams = journal.by_stream();
            assert_eq!(streams.values().map(Vec::len).sum::<usize>() as i64, head, "{name}");
            for (stream, numbers) in streams {
                let numbers = numbers.iter().copied();
                assert!(numbers.clone().eq(0..numbers.len() as i64), "{name} handles {stream} out of order or twice");
            }
        }
    }
}
