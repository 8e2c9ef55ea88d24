//! A writer that waits for a projection: `group.wait` answers once the projection shows the write, through the other server
//! too, and also where most partitions have nothing to do.

use tokio::time::Instant;

use super::cluster::Cluster;
use super::handover::told;
use super::local::{Journal, Run, write};
use super::*;

const PARTITIONS: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_reads_its_own_write_from_the_projection() {
    for cluster in [Cluster::on_a_file().await, Cluster::on_postgres().await] {
        let (client, journal) = (cluster.client(0), Journal::default());
        create_group(&client, PARTITIONS, SESSION).await;
        let run = Run::start(journal.worker(&client, GROUP, 0));
        // Streams of two partitions.
        let mut times = Vec::new();
        for round in 0..rounds(30) {
            let position = write(&cluster.client(round), if round % 3 == 0 { "a" } else { "b" }).await;
            let waited = cluster.client(round / 2).wait_for(GROUP, position, PATIENCE).await.expect("a reply");
            let now = Instant::now();
            let handled = journal.all().iter().find(|handled| handled.position == position).map(|handled| handled.at);
            assert!(waited, "round {round} is not reached");
            times.push(now - handled.unwrap_or_else(|| panic!("round {round} is told before it is handled")));
        }
        told("from the handler's end until the writer knows", times);
        run.stop().await;
        cluster.stop().await;
    }
}
