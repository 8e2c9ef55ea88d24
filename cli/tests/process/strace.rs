//! System calls: between the write of a message into the log's write-ahead log and its acknowledgement there is a sync
//! of that file.

use std::collections::HashMap;
use std::path::Path;

use eventodb_store::testing::tell;
use rustix::process::Signal;
use serde_json::json;
use tokio::process::Command;

use super::children::children;
use super::http::Http;
use super::server::*;

/// Bytes of each call that are shown: a whole page of the log.
const SHOWN: &str = "8192";

#[tokio::test(flavor = "multi_thread")]
async fn every_acknowledged_write_is_synced_before_its_reply() {
    let there = std::process::Command::new("strace").arg("--version").output();
    assert!(there.is_ok(), "this test needs strace: install it with `apt-get install strace`, or run `make deps`");
    let directory = tempfile::tempdir().expect("a temporary folder");
    let trace = directory.path().join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-y", "-s", SHOWN, "-e", "trace=fsync,fdatasync,write,pwrite64,sendto,writev,sendmsg", "-o"]);
    command.arg(&trace).arg(BINARY).args(Server::arguments(&directory.path().join("data")));
    let mut server = Server::launch(command).await;
    server.pid = traced(server.pid);

    let mut acknowledged = HashMap::new();
    let mut http = server.connect().await;
    for at in 0..20 {
        write(&mut http, format!("alone-{at}."), &mut acknowledged).await;
    }
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let address = server.address.clone();
            tokio::spawn(async move {
                let mut acknowledged = HashMap::new();
                let mut http = Http::connect(&address, TOKEN).await.expect("the server listens");
                for at in 0..15 {
                    write(&mut http, format!("together-{writer}-{at}."), &mut acknowledged).await;
                }
                acknowledged
            })
        })
        .collect();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer does not panic"));
    }
    server.signal(Signal::TERM);
    server.ended().await;
    check(&trace, &acknowledged);
}

/// Writes a message with a mark, and remembers the answer.
async fn write(http: &mut Http, mark: String, acknowledged: &mut HashMap<String, String>) {
    let write = json!(["stream.write", "s-1", { "type": "T", "data": { "mark": mark } }]);
    let place = call(http, &write).await;
    acknowledged.insert(mark, format!("globalPosition\\\":{}}}", place["globalPosition"]));
}

/// A new directory is synced before writes in it are acknowledged, so that a power failure cannot remove it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_data_directory_is_synced_in_its_parent() {
    let directory = tempfile::tempdir().expect("a temporary folder");
    let parent = directory.path().canonicalize().expect("it is there");
    let trace = parent.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "--seccomp-bpf", "-qq", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace);
    command.arg(BINARY).args(Server::arguments(&parent.join("new/data")));
    let mut server = Server::launch(command).await;
    server.pid = traced(server.pid);
    server.stop().await;
    let trace = std::fs::read_to_string(trace).expect("strace has written it");
    for made_in in [parent.clone(), parent.join("new")] {
        let sync = format!("<{}>", made_in.display());
        assert!(trace.lines().any(|line| line.contains(&sync)), "{sync} in {trace}");
    }
}

/// The process that strace started.
pub(crate) fn traced(strace: u32) -> u32 {
    children(strace).pop().expect("strace has started the server")
}

/// The line of the trace at which a call begins, and the one at which it ends.
struct Sync {
    begins: usize,
    ends: usize,
}

fn check(trace: &Path, acknowledged: &HashMap<String, String>) {
    let trace = std::fs::read_to_string(trace).expect("strace has written it");
    let lines: Vec<&str> = trace.lines().collect();
    let is_log = |line: &str| line.contains("/1.log.db-wal>");
    let writes = |line: &str| line.contains("pwrite64(") || line.contains(" write(");
    let replies = |line: &str| ["sendto(", "writev(", "sendmsg(", "write("].iter().any(|call| line.contains(call));
    let syncs = syncs(&lines);
    for (mark, reply) in acknowledged {
        let written = lines.iter().position(|line| is_log(line) && writes(line) && line.contains(mark.as_str()));
        let written = written.unwrap_or_else(|| panic!("{mark} was never written into the log"));
        let replied = lines.iter().position(|line| !is_log(line) && replies(line) && line.contains(reply.as_str()));
        let replied = replied.unwrap_or_else(|| panic!("the reply to {mark} is not in the trace"));
        let synced = syncs.iter().any(|sync| sync.begins > written && sync.ends < replied);
        assert!(
            synced,
            "{mark} was written in line {written} and acknowledged in line {replied}, with no sync between"
        );
    }
    tell(&format!("{} acknowledged writes, {} syncs of the log", acknowledged.len(), syncs.len()));
}

/// Every successful fsync or fdatasync of the log's write-ahead log.
fn syncs(lines: &[&str]) -> Vec<Sync> {
    let mut begun: HashMap<&str, usize> = HashMap::new();
    let mut syncs = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let thread = line.split_whitespace().next().unwrap_or_default();
        let resumed = line.contains("sync resumed>");
        if line.contains("sync(") && line.contains("/1.log.db-wal>") {
            begun.insert(thread, at);
        } else if !resumed {
            continue;
        }
        if line.ends_with("= 0")
            && let Some(begins) = begun.remove(thread)
        {
            syncs.push(Sync { begins, ends: at });
        }
    }
    syncs
}
