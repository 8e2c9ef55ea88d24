//! The real binary on a read-only disk.

use eventodb_store::testing::Disk;
use serde_json::json;

use super::server::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_a_read_only_disk_serves_reads_and_takes_writes_once_the_disk_does() {
    let Some(disk) = Disk::mount(4 * 1024 * 1024) else { return };
    let data = disk.path().join("data");
    let write = json!(["stream.write", "s-1", { "type": "T", "data": {} }]);
    let server = Server::start(&data, &[]).await;
    call(&mut server.connect().await, &write).await;
    server.stop().await;

    disk.set_read_only(true);
    let server = Server::start(&data, &[]).await;
    let mut http = server.connect().await;
    assert_eq!(server.all().await.len(), 1);
    let (status, error) = http.call(&write).await.expect("the server answers");
    assert_eq!((status, &error["error"]["code"]), (503, &json!("BACKEND_UNAVAILABLE")));
    disk.set_read_only(false);
    call(&mut http, &write).await;
    assert_eq!(server.all().await.len(), 2);
    server.stop().await;
}
