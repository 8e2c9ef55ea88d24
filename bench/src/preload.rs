//! Messages that are in place before anything is measured.
//!
//! Neighbours are of different streams, so that a stream's messages lie as far apart as after years of use. Messages of
//! one stream beside each other would make every read faster than it is.

use std::sync::Arc;
use std::time::Duration;

use crate::load::{self, Lane, Plan};
use crate::measure::Gauge;
use crate::names::Names;
use crate::random::{Random, random, uuid};
use crate::rpc;
use crate::scenario::write::data;
use crate::wire::{Address, Reply, Template};

/// The namespace that is filled, and the messages for it.
#[derive(Clone, Debug)]
pub(crate) struct Fill<'a> {
    pub(crate) address: &'a Address,
    /// Its streams, each of which gets as many messages as the others.
    pub(crate) names: &'a Names,
    pub(crate) count: u64,
    /// Bytes of a message's data.
    pub(crate) size: usize,
    /// Whether the messages bring random ids.
    pub(crate) random_ids: bool,
}

/// Connections: with many messages in a request, and with one.
const LANES: (u64, u64) = (4, 64);
/// Messages in one request. Each is of another stream, and a request may have 100 streams.
const BATCH: u64 = 100;

/// Puts messages in place, at full speed: by `streams.append`, or one by one where the server does not know it.
pub(crate) async fn fill(fill: &Fill<'_>, gauge: Arc<Gauge>) -> anyhow::Result<()> {
    if fill.count == 0 {
        return Ok(());
    }
    let has_batches = rpc::knows(fill.address, "streams.append").await?;
    let (lanes, most) = if has_batches { (LANES.0, BATCH.min(fill.names.streams)) } else { (LANES.1, 1) };
    let lanes = (0..lanes).map(|number| {
        // Each lane has a part of the whole, one after the other.
        let (from, to) = (fill.count * number / lanes, fill.count * (number + 1) / lanes);
        FillLane::new(fill, has_batches.then_some(most), from, to)
    });
    let plan = Plan { duration: Duration::from_secs(24 * 3600), ..Plan::default() };
    let loaded = load::run(fill.address, plan, lanes.collect(), Arc::clone(&gauge)).await?;
    if let Some(error) = loaded.measured.first_error {
        anyhow::bail!("cannot preload (--preload 0 does without): {error}");
    }
    let placed = loaded.measured.messages;
    gauge.go_on(|| format!("messages were put in place: {placed} of {}", fill.count))
}

/// A lane that writes one part of the messages.
#[derive(Debug)]
struct FillLane {
    address: Address,
    request: Template,
    names: Names,
    data: String,
    ids: Option<Random>,
    /// Messages of one request, of `streams.append`.
    batch: Option<u64>,
    next: u64,
    end: u64,
    asked: u64,
}

impl FillLane {
    fn new(fill: &Fill<'_>, batch: Option<u64>, next: u64, end: u64) -> Self {
        let (address, names, data) = (fill.address.clone(), fill.names.clone(), data(fill.size));
        // Never those of an earlier run.
        let ids = fill.random_ids.then(|| random(uuid::Uuid::new_v4().as_u64_pair().0, 0));
        Self { request: address.call(""), address, names, data, ids, batch, next, end, asked: 0 }
    }
}

impl Lane for FillLane {
    fn request(&mut self) -> &[u8] {
        self.asked = self.batch.unwrap_or(1).min(self.end - self.next);
        let (names, data, ids) = (&self.names, &self.data, &mut self.ids);
        let mut id = |before: &str, after: &str| match ids {
            Some(ids) => format!(r#"{before}"id":"{}"{after}"#, uuid(ids)),
            None => String::new(),
        };
        let message = format!(r#""type":"Deposited","data":{data}"#);
        let stream = |n| names.stream(names.shuffled(n));
        let body = match self.batch {
            Some(_) => {
                let entry = |n| format!(r#"{{"stream":"{}","messages":[{{{}{message}}}]}}"#, stream(n), id("", ","));
                let entries: Vec<String> = (self.next..self.next + self.asked).map(entry).collect();
                format!(r#"["streams.append",[{}]]"#, entries.join(","))
            }
            None => format!(r#"["stream.write","{}",{{{message}}}{}]"#, stream(self.next), id(",{", "}")),
        };
        self.request = self.address.call(&body);
        &self.request.bytes
    }

    fn answer(&mut self, reply: Reply<'_>) -> anyhow::Result<u64> {
        reply.success()?;
        self.next += self.asked;
        Ok(self.asked)
    }

    fn is_done(&self) -> bool {
        self.next == self.end
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU64, Ordering};

    use hyper::StatusCode;

    use super::*;
    use crate::ceiling::noop::answer_all;
    use crate::names::Distribution;

    fn written(streams: u64, count: u64, batch: Option<u64>) -> Vec<String> {
        let address = Address::new("http://127.0.0.1:1", None).unwrap();
        let names = Names::new(streams, 20, Distribution::Uniform);
        let fill = Fill { address: &address, names: &names, count, size: 64, random_ids: true };
        let mut lane = FillLane::new(&fill, batch, 0, count);
        let mut streams = Vec::new();
        while !lane.is_done() {
            let text = String::from_utf8(lane.request().to_vec()).unwrap();
            let call: serde_json::Value = serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap();
            match call[1].as_array() {
                Some(entries) => streams.extend(entries.iter().map(|entry| entry["stream"].to_string())),
                None => streams.push(call[1].to_string()),
            }
            lane.next += lane.asked;
        }
        streams
    }

    #[test]
    fn a_store_is_filled_with_exactly_so_many_evenly_and_spread() {
        for batch in [Some(100), None] {
            let streams = written(500, 1_207, batch);
            assert_eq!(streams.len(), 1_207);
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            streams.iter().for_each(|stream| *counts.entry(stream).or_default() += 1);
            assert_eq!(counts.len(), 500);
            assert!(counts.values().all(|&count| count == 2 || count == 3), "{counts:?}");
            assert!(streams.windows(2).all(|pair| pair[0] != pair[1]), "no two in a row are of one stream");
        }
    }

    /// A server of the protocol's core knows `stream.write`, and nothing that came later.
    fn of_the_core(body: &[u8], written: &AtomicU64) -> (StatusCode, &'static [u8]) {
        if !body.starts_with(br#"["stream.write","#) {
            return (StatusCode::NOT_FOUND, br#"{"error":{"code":"METHOD_NOT_FOUND","message":"no such method"}}"#);
        }
        written.fetch_add(1, Ordering::Relaxed);
        (StatusCode::OK, br#"{"position":0,"globalPosition":1}"#)
    }

    #[tokio::test]
    async fn a_server_without_batches_is_filled_one_by_one() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new(&format!("http://{}", listener.local_addr().unwrap()), None).unwrap();
        let written = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&written);
        let server = tokio::spawn(answer_all(listener, move |body| of_the_core(body, &counted)));
        let names = Names::new(50, 5, Distribution::Uniform);
        let what = Fill { address: &address, names: &names, count: 333, size: 64, random_ids: false };
        fill(&what, Arc::new(Gauge::default())).await.unwrap();
        assert_eq!(written.load(Ordering::Relaxed), 333);
        server.abort();
    }
}
