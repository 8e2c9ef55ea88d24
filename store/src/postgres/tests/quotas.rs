//! A quota that two servers fill together.

use std::sync::Arc;

use eventodb_protocol::message::Expected;
use eventodb_protocol::reply::Quota;
use futures_util::future::join_all;

use super::pair::{NAME, Pair};
use crate::Error;
use crate::conformance::support::{PATIENCE, message, write_expecting};
use crate::error::QuotaOf;
use crate::log::Log;
use crate::model::NamespaceUpdate;

const MOST: i64 = 200;
const WRITERS: usize = 8;

/// Writes until the quota is used up; returns how many messages were written.
async fn fill(log: Arc<Log>, writer: usize) -> usize {
    let mut written = 0;
    loop {
        match write_expecting(&log, &format!("a-{writer}"), Expected::Any, message("T")).await {
            Ok(_) => written += 1,
            Err(Error::OverQuota(QuotaOf::Messages)) => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_fill_a_quota_and_no_more() {
    let pair = Pair::new().await;
    let logs = pair.logs().await;
    let quota = Quota { messages: Some(MOST), bytes: None };
    let update = NamespaceUpdate { quota: Some(quota), ..NamespaceUpdate::default() };
    pair.servers[0].update(NAME, &update).await.expect("it lives");
    let heard = async {
        while logs[1].quota() != quota {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the other server hears of it");
    let writers = (0..WRITERS).map(|writer| tokio::spawn(fill(Arc::clone(&logs[writer % 2]), writer)));
    let written: usize = join_all(writers).await.into_iter().map(|written| written.expect("no panic")).sum();
    assert_eq!(written as i64, MOST);
    assert_eq!(logs[0].counts().await.expect("it answers").messages, MOST as u64);
    pair.close().await;
}
